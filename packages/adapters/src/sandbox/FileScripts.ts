/** What the programs say that look after files inside a sandbox, whoever made it. */
import type { SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import { FileNotFound, FileRefused } from "@castellan/domain/sandbox/SandboxProvider.ts"

/** Exit codes by which they say what they found; why something failed ends what they print of errors. */
export const notFoundExitCode = 44
export const failedExitCode = 45

/** What a script says of a link that leads to nothing, or to itself. */
const leadsNowhere = "Dangling symbolic link"

/**
 * Finds where a file that is to be written stands; `$wanted` is the path as it was given, `$mode` the permissions, or
 * empty. Sets `$file`, which is no link, `$above`, its directory, made if need be, and `$mode`: what an existing file
 * has, or what a new one gets. It refuses in the system's words, for `refusalOf`.
 */
export const resolveTargetScript = `
[ ! -d "$wanted" ] || exit ${notFoundExitCode}
file=$wanted
if [ -L "$wanted" ]; then
  [ -e "$wanted" ] || refuse ": ${leadsNowhere}"
  file=$(readlink -fn -- "$wanted" && echo .) || refuse ": ${leadsNowhere}"
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

/** What the system says of a path that is not of the kind it has to be. */
const otherKind = ["Not a directory", "File exists"]

const notAllowed = "The sandbox's user is not allowed to"
const nothingThere = "No file can be made there"

/** What is said where not even the home directory can be entered. */
export const homeNotAccessible = "home"

/** What the system says of a path that is the caller's to change, and what its owner is told. */
const refusals = new Map([
  [homeNotAccessible, "The home directory can't be entered"],
  ["Permission denied", notAllowed],
  ["Operation not permitted", notAllowed],
  ["Read-only file system", "It can't be changed"],
  ["File name too long", "Its name is too long"],
  ["Is a directory", "It is named like a directory"],
  ["No such file or directory", nothingThere],
  ["Directory nonexistent", nothingThere],
  ["Device or resource busy", nothingThere],
  ["Too many levels of symbolic links", nothingThere],
  [leadsNowhere, "It is a link that leads to no file"]
])

/** What a program's last line of errors means for the file; undefined where it is not the file's fault. */
export const fileErrorOf = (path: SandboxPath, line: string): FileNotFound | FileRefused | undefined => {
  const said = line.trimEnd().split(": ").at(-1)!
  if (otherKind.includes(said)) return new FileNotFound({ path })
  const reason = refusals.get(said)
  return reason === undefined ? undefined : new FileRefused({ path, reason })
}
