/** Starts a program in a sandbox and distinguishes a program that never ran from one that ran and failed. */
import { StartFailure } from "@castellan/domain/sandbox/Command.ts"
import { Schema } from "effect"

/**
 * The script that becomes the program, by `exec`. `$1` is the working directory, the rest is the program with its arguments.
 * Descriptor 1 is the program's standard output, 3 its standard error, 2 the start record and 4 the gate.
 *
 * Nothing that this script prints reaches the program's streams, except the shell's own message when `exec` fails, which
 * goes to descriptor 3. The reader of descriptor 3 therefore waits at the gate. The gate closes when `exec` succeeds, because
 * the shell marks its copy of a redirected descriptor close-on-exec. If `exec` fails, the gate delivers a line, and the
 * reader drops its input.
 *
 * The gate also closes when the sandbox ends. To keep the shell's message out of the output even then, the script looks up
 * the program first, so that `exec` fails only for an executable file that can't run.
 *
 * The start record is preallocated with blanks, so it can be written to a full disk. It holds `began` once everything before
 * the program has worked, and `refused REASON` if the program never ran. When `exec` fails, `dash` runs the trap at once;
 * `bash` needs `execfail` to reach the end of the script, and `--` before a program whose name could be an option.
 */
export const startScript = `
refuse() {
  trap - EXIT
  echo "refused $1" >&2
  echo refused >&4
  exit 126
}
locate() {
  found=
  case $1 in
    */*) found=$1 ;;
    *)
      set -f
      IFS=:
      for directory in $PATH; do
        [ -f "\${directory:-.}/$1" ] || continue
        found=\${directory:-.}/$1
        [ ! -x "$found" ] || break
      done
      unset IFS
      set +f ;;
  esac
  [ -n "$found" ] && [ -e "$found" ] || refuse command_not_found
  [ ! -d "$found" ] || refuse command_is_directory
  [ -x "$found" ] || refuse command_not_executable
}
explain() {
  locate "$2"
  [ "$1" != 127 ] || refuse interpreter_not_found
  refuse command_not_executable
}
if ! CDPATH= cd -- "$1" 2> /dev/null; then
  [ -e "$1" ] || refuse cwd_not_found
  [ -d "$1" ] || refuse cwd_not_directory
  refuse cwd_not_accessible
fi
shift
locate "$1"
trap 'explain "$?" "$1"' EXIT
options=
if shopt -s execfail 2> /dev/null; then options=--; fi
echo began >&2
{ exec $options "$@"; } 2>&3 3>&- 4>&-
`

/**
 * Defines `collectGated`, which collects standard error into the file `$1` once the gate, descriptor 8, has closed. It needs
 * a function `collect`.
 */
export const collectGatedScript = `
collectGated() {
  read -r refused <&8
  exec 8<&-
  if [ -n "$refused" ]; then exec cat > /dev/null; fi
  collect "$1"
}
`

/** Defines `emptyRecord`, which creates the preallocated start record `$1`. */
export const emptyRecordScript = `
emptyRecord() { printf '%64s\\n' '' > "$1"; }
`

/** Bytes of the block in which `ulimit -f` counts. The limit of output is a multiple of it. */
export const outputBlockSize = 512

/** Bytes that are read of a start record: other processes of the sandbox may have appended to it. */
export const maxStartRecord = 4096

const isFailure = Schema.is(StartFailure)

/** The failure with that code; `command_not_started` for an unknown code. */
export const parseStartFailure = (word: string | undefined): StartFailure =>
  isFailure(word) ? word : "command_not_started"

/** Why a program that has ended never ran; undefined if it ran. `record` is the text of its start record. */
export const startFailureOf = (record: string): StartFailure | undefined => {
  const lines = record.split("\n").map((line) => line.trim())
  const refused = lines.find((line) => line.startsWith("refused "))?.slice("refused ".length)
  if (refused !== undefined) return parseStartFailure(refused)
  return lines.includes("began") ? undefined : "command_not_started"
}
