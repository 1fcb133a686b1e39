/** What the programs say that look after files inside a sandbox, whoever made it. */
import { FileMode, fileModeOf, SandboxFile, type SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import { FileNotFound, FileRefused } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { DateTime, Schema } from "effect"

/** Exit codes by which they say what they found; why something failed ends what they print of errors. */
export const notThere = 44
export const failed = 45

/** Levels that a listing goes down. */
export const deepest = 64

/** What a script says of a link that leads to nothing, or to itself. */
const leadsNowhere = "Dangling symbolic link"

/**
 * Finds where a file that is to be written stands; `$wanted` is the path as it was given, `$mode` the permissions, or
 * empty. Sets `$file`, which is no link, `$above`, its directory, made if need be, and `$mode`: what an existing file
 * has, or what a new one gets. It refuses in the system's words, for `refusalOf`.
 */
export const findTarget = `
[ ! -d "$wanted" ] || exit ${notThere}
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

/** What a listing says of each entry, for `find`; see `listed`. */
export const entryFormat = "%P\\0%y\\0%s\\0%T@\\0%m\\0%l\\0"

const kinds: Record<string, SandboxFile["type"]> = { f: "file", d: "directory", l: "link" }

/** What the system says of a path that is not of the kind it has to be. */
const otherKind = ["Not a directory", "File exists"]

const notAllowed = "The sandbox's user is not allowed to"
const nothingThere = "No file can be made there"

/** What is said where not even the home directory can be entered. */
export const noHome = "home"

/** What the system says of a path that is the caller's to change, and what its owner is told. */
const refusals = new Map([
  [noHome, "The home directory can't be entered"],
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
export const refusalOf = (path: SandboxPath, line: string): FileNotFound | FileRefused | undefined => {
  const said = line.trimEnd().split(": ").at(-1)!
  if (otherKind.includes(said)) return new FileNotFound({ path })
  const reason = refusals.get(said)
  return reason === undefined ? undefined : new FileRefused({ path, reason })
}

/** The years of times on the wire, 0 to 9999, in epoch milliseconds. A file can claim any time of change. */
const firstMoment = Date.parse("0000-01-01T00:00:00.000Z")
const lastMoment = Date.parse("9999-12-31T23:59:59.999Z")

const within = (least: number, value: number, most: number): number => Math.max(least, Math.min(most, value || 0))

/**
 * The milliseconds of a time as `find` prints it: seconds, and the fraction that comes on top of them. One and a half
 * seconds before 1970 is `-2.5`.
 */
const millisOf = (text: string): number => {
  const [seconds = "", fraction = ""] = text.split(".")
  return Number(seconds) * 1000 + Math.floor(Number(`0.${fraction}`) * 1000)
}

const isMode = Schema.is(FileMode)

/**
 * The files of a listing, in order: NUL-separated path, type, size, time of change, mode, and target of a link. A number
 * that has no place on the wire becomes the nearest one that has.
 */
export const listed = (text: string): ReadonlyArray<SandboxFile> => {
  const fields = text.split("\0")
  const files: Array<SandboxFile> = []
  for (let i = 0; i + 5 < fields.length; i += 6) {
    const [mode, target] = [fields[i + 4]!, fields[i + 5]!]
    files.push(
      new SandboxFile({
        path: fields[i]!,
        type: kinds[fields[i + 1]!] ?? "other",
        size: within(0, Number(fields[i + 2]), Number.MAX_SAFE_INTEGER),
        mode: fileModeOf(isMode(mode) ? Number.parseInt(mode, 8) : 0),
        ...(fields[i + 1] === "l" ? { target } : {}),
        modifiedAt: DateTime.makeUnsafe(within(firstMoment, millisOf(fields[i + 3]!), lastMoment))
      })
    )
  }
  return files.sort((a, b) => (a.path < b.path ? -1 : 1))
}
