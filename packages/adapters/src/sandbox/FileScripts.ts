/** What the providers' file scripts share: exit codes, the resolution of a target, and errors from a program's message. */
import type { SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import { FileNotFound, FileRefused } from "@castellan/domain/sandbox/SandboxProvider.ts"

/** Exit codes of the file scripts. A failed script prints the reason at the end of its last line. */
export const notFoundExitCode = 44
export const failedExitCode = 45

/** The message for a link whose target does not exist, or that links to itself. */
const danglingLink = "Dangling symbolic link"

/**
 * Resolves the path of a file before it is written. `$wanted` is the requested path, `$mode` the permissions or empty. Sets
 * `$file`, which is no link; `$above`, its directory, which is created if missing; and `$mode`: that of the existing file, or
 * the default of a new one. It fails with the system's messages, which `fileErrorOf` reads.
 */
export const resolveTargetScript = `
[ ! -d "$wanted" ] || exit ${notFoundExitCode}
file=$wanted
if [ -L "$wanted" ]; then
  [ -e "$wanted" ] || refuse ": ${danglingLink}"
  file=$(readlink -fn -- "$wanted" && echo .) || refuse ": ${danglingLink}"
  file=\${file%.}
fi
above=./
case "$file" in
  */ | */. | */..) refuse ": Is a directory" ;;
  */*) above=\${file%/*}/ ;;
esac
[ -f "$file" ] || [ ! -e "$file" ] || refuse ": Device or resource busy"
said=$(mkdir -p -- "$above" 2>&1) || refuse "$said"
if [ -z "$mode" ]; then
  if [ -e "$file" ]; then mode=$(stat -c %a -- "$file"); else mode=$(printf %o $((0666 & ~0$(umask)))); fi
fi
`

/** System messages for a path that leads through a file: nothing can exist there. */
const notFoundMessages = ["Not a directory", "File exists"]

const notAllowed = "The sandbox's user is not allowed to"
const cannotCreate = "No file can be made there"

/** The message of a script that can't enter the home directory. */
export const homeNotAccessible = "home"

/** System messages for faults of the caller's path, with the reason that the API returns. */
const reasons = new Map([
  [homeNotAccessible, "The home directory can't be entered"],
  ["Permission denied", notAllowed],
  ["Operation not permitted", notAllowed],
  ["Read-only file system", "It can't be changed"],
  ["File name too long", "Its name is too long"],
  ["Is a directory", "It is named like a directory"],
  ["No such file or directory", cannotCreate],
  ["Directory nonexistent", cannotCreate],
  ["Device or resource busy", cannotCreate],
  ["Too many levels of symbolic links", cannotCreate],
  [danglingLink, "It is a link that leads to no file"]
])

/** The error for a program's last message; undefined if the file is not the cause. */
export const fileErrorOf = (path: SandboxPath, line: string): FileNotFound | FileRefused | undefined => {
  const message = line.trimEnd().split(": ").at(-1)!
  if (notFoundMessages.includes(message)) return new FileNotFound({ path })
  const reason = reasons.get(message)
  return reason === undefined ? undefined : new FileRefused({ path, reason })
}
