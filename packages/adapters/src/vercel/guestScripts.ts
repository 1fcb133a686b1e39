/**
 * The shell scripts that run in a sandbox. None contains input: parameters are arguments or variables. They record commands
 * in files outside the home directory that snapshots include, so that every server finds them.
 */
import { failedExitCode, resolveTargetScript, homeNotAccessible, notFoundExitCode } from "../sandbox/FileScripts.ts"
import { entryFormat } from "../sandbox/Listing.ts"
import { collectGatedScript, emptyRecordScript } from "../sandbox/CommandStart.ts"

/** The directory of the records of commands: on disk, and writable for every user that an image may run as. */
export const recordsDirectory = "/var/tmp/castellan"

/** The prefix of uploaded pieces of files, in a directory that every user may write to. */
export const uploadPrefix = "/var/tmp/castellan-upload-"

/** The environment variable that holds the id of the command in each of its processes. */
export const commandVariable = "CASTELLAN_COMMAND"

/** The prefix of the numbered variables that pass a command its environment, one `NAME=value` each. */
export const variablePrefix = "CASTELLAN_VARIABLE_"

/** Bytes of output that one line carries. */
export const pieceSize = 192 * 1024

/**
 * Kills the processes that have a command's id in their environment, and their descendants, until the end of the command
 * is recorded. A process that changed its user has lost that environment, and only root may signal it, hence `sudo`. All
 * are stopped before any is killed, because a shell would print that its child was killed.
 */
const killMarked = `
marked() { $as grep -lzxF -- "${commandVariable}=$id" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3; }
below() { for pid in "$@"; do cat "/proc/$pid/task/"*/children 2>/dev/null; done; }
signal() { $as sh -c 'kill "$@"' sh "$@" 2>/dev/null; }
killOnce() {
  pids=$(marked)
  next=$(below $pids)
  while [ -n "$(echo $next)" ]; do
    pids="$pids $next"
    next=$(below $next)
  done
  [ -n "$pids" ] || return 0
  signal -STOP $pids
  signal -KILL $pids
}
killMarked() {
  as=
  if sudo -n true 2>/dev/null; then as="sudo -n"; fi
  round=0
  while [ ! -s "$dir/exit" ] && [ "$round" -lt 200 ]; do
    killOnce
    round=$((round + 1))
    sleep 0.05
  done
  killOnce
}
`

/** Begins the last line of a script, which has its exit code. A script without that line was cut off. */
const exitCodeMark = "="

/** The exit code, if this is the last line of a script. */
export const exitCodeIn = (line: string): number | undefined =>
  new RegExp(`^${exitCodeMark} (\\d{1,3})$`).test(line) ? Number(line.slice(exitCodeMark.length + 1)) : undefined

const withExitCode = (script: string) => `(\n${script}\n)\necho "${exitCodeMark} $?"`

/** Waits up to 2 seconds for the start of a command to be recorded, which happens just after its directory is made. */
const awaitStart = `
left=20
while [ ! -s "$dir/begun" ] && [ "$left" -gt 0 ]; do sleep 0.1; left=$((left - 1)); done
`

/** Prints the record of a command. */
const printRecord = `
echo "begun $(cat "$dir/begun" 2>/dev/null)"
[ ! -s "$dir/exit" ] || echo "ended $(head -n 1 "$dir/exit")"
`

/**
 * Runs a command to its end, unless one of that id was started before: making the directory of the record is the lock. It
 * prints the record at once. `$1` is the sandbox, `$2` the command's id, `$3` the session, `$4` how much of each stream to
 * keep, in blocks of 512 bytes, `$5` the timeout in seconds; the rest is the command.
 *
 * It deletes records that a snapshot brought from another sandbox. It reserves the space for the record of the end first,
 * so that a full disk still holds it. Only the collectors are limited in what they write, so output that is too long is cut
 * and the command continues. Background children may hold the pipes for ever, so the end is recorded when the command
 * itself ends. The command runs in a subshell, because this shell would print to its pipes that it was killed.
 */
export const runCommand = `
umask=$(umask)
umask 077
name=$1 id=$2 session=$3 blocks=$4 seconds=$5
shift 5
own=${recordsDirectory}/commands/$name
dir=$own/$id
mkdir -p "$own" || exit 1
if ! mkdir "$dir" 2>/dev/null; then
  ${awaitStart}
  ${printRecord}
  echo "${exitCodeMark} 0"
  exit 0
fi
${killMarked}
${collectGatedScript}
${emptyRecordScript}
: > "$dir/out"
: > "$dir/err"
printf '%64s\\n' '' > "$dir/end" || exit 1
emptyRecord "$dir/start" || exit 1
mkfifo "$dir/o" "$dir/e" "$dir/gate" || exit 1
exec 5<> "$dir/o" 6<> "$dir/e"
echo "$session $(date +%s%3N)" > "$dir/begun.new" && mv "$dir/begun.new" "$dir/begun"
${printRecord}
echo "${exitCodeMark} 0"
for other in ${recordsDirectory}/commands/*; do [ "$other" = "$own" ] || rm -rf -- "$other"; done
collect() { ulimit -f "$blocks"; trap '' XFSZ; cat > "$1" 2>/dev/null; cat > /dev/null; }
(collect "$dir/out") < "$dir/o" > /dev/null 2>&1 5>&- 6>&- &
out=$!
(collectGated "$dir/err") < "$dir/e" 8< "$dir/gate" > /dev/null 2>&1 5>&- 6>&- &
err=$!
(
  sleep "$seconds" &
  echo "$!" > "$dir/nap"
  wait "$!" && [ ! -e "$dir/exit" ] && mkdir "$dir/timedOut" && killMarked
) > /dev/null 2>&1 5>&- 6>&- &
(
  umask "$umask"
  exec "$@" < /dev/null > "$dir/o" 2<> "$dir/start" 3> "$dir/e" 4> "$dir/gate" 5>&- 6>&-
)
code=$?
why=command_not_started
while read -r word rest; do
  case $word in
    began) [ "$why" != command_not_started ] || why= ;;
    refused) why=$rest ;;
  esac
done < "$dir/start"
by=exited
if [ "$code" = 137 ] && [ -d "$dir/killed" ]; then by=killed
elif [ "$code" = 137 ] && [ -d "$dir/timedOut" ]; then by=timedOut
elif [ -n "$why" ]; then by=unstarted
fi
echo "$by $code $(date +%s%3N) $why" 1<> "$dir/end" && mv "$dir/end" "$dir/exit"
while [ ! -s "$dir/nap" ]; do sleep 0.01; done
read -r nap < "$dir/nap"
kill "$nap" 2>/dev/null
exec 5>&- 6>&- 7<> "$dir/gate"
echo >&7
rm -f "$dir/o" "$dir/e"
wait "$out" "$err"
rm -f "$dir/gate"
: > "$dir/drained"
`

/**
 * Enters the home directory, sets variables and becomes a program. `$1` is the home directory, `$2` the number of variables;
 * the rest is the program, which is `startScript`. Variables are passed in the environment, because every user can read the
 * arguments of a process.
 */
export const enterAndExec = `
if ! CDPATH= cd -- "$1" 2> /dev/null; then
  echo "refused cwd_not_accessible" >&2
  echo refused >&4
  exit 126
fi
left=$2
shift 2
while [ "$left" -gt 0 ]; do
  left=$((left - 1))
  eval "set -- \\"\\$${variablePrefix}$left\\" \\"\\$@\\"; unset ${variablePrefix}$left"
done
exec env -- "$@"`

/** Prints the record of command `$2` of sandbox `$1`. */
export const inspectCommand = withExitCode(`
dir=${recordsDirectory}/commands/$1/$2
[ -d "$dir" ] || exit 0
${awaitStart}
${printRecord}
`)

/** Seconds after which a waiting script ends: less than the shortest time after which a stream is cut off. */
const maxWait = 200

/** Defines `nap`, which sleeps 50 ms at first and 250 ms later, and prints a dot every 10 seconds as a sign of life. */
const nap = `
nap() {
  if [ "$naps" -lt 40 ]; then sleep 0.05
  else
    sleep 0.25
    [ $((naps % 40)) != 0 ] || echo .
  fi
  naps=$((naps + 1))
}
naps=0
most=${40 + maxWait * 4}
`

/**
 * Prints the record of command `$2` of sandbox `$1` once it has ended or session `$3` does not run it, or after `maxWait`.
 */
export const awaitCommand = withExitCode(`
dir=${recordsDirectory}/commands/$1/$2
${nap}
[ -d "$dir" ] || exit 0
echo .
${awaitStart}
read -r session rest < "$dir/begun"
while [ "$session" = "$3" ] && [ ! -s "$dir/exit" ] && [ "$naps" -lt "$most" ]; do nap; done
${printRecord}
`)

/**
 * Prints the output of command `$2` of sandbox `$1` in pieces of base64, from byte `$3` of standard output and byte `$4` of
 * standard error on. `$5` is the running session: a command of another session has ended. Prints `end` after all output.
 */
export const followOutput = withExitCode(`
dir=${recordsDirectory}/commands/$1/$2 outAt=$3 errAt=$4 running=$5
${nap}
[ -d "$dir" ] || { echo none; exit 0; }
echo .
${awaitStart}
read -r session rest < "$dir/begun"
since=0
while [ "$naps" -lt "$most" ]; do
  over=
  if [ "$session" != "$running" ]; then over=all; fi
  if [ -s "$dir/exit" ]; then
    over=\${over:-most}
    [ ! -e "$dir/drained" ] || over=all
  fi
  size=$(wc -c < "$dir/out")
  while [ "$outAt" -lt "$size" ]; do
    echo "out $(tail -c +$((outAt + 1)) "$dir/out" | head -c $((size - outAt < ${pieceSize} ? size - outAt : ${pieceSize})) | base64 | tr -d '\\n')"
    outAt=$((size - outAt < ${pieceSize} ? size : outAt + ${pieceSize}))
  done
  size=$(wc -c < "$dir/err")
  while [ "$errAt" -lt "$size" ]; do
    echo "err $(tail -c +$((errAt + 1)) "$dir/err" | head -c $((size - errAt < ${pieceSize} ? size - errAt : ${pieceSize})) | base64 | tr -d '\\n')"
    errAt=$((size - errAt < ${pieceSize} ? size : errAt + ${pieceSize}))
  done
  if [ "$over" = all ] || [ "$since" -ge 15 ]; then echo end; exit 0; fi
  # Background children may hold the pipes, and fill them, for ever. That is no longer the command's output.
  if [ "$over" = most ]; then since=$((since + 1)); fi
  nap
done
`)

/** Kills command `$2` of sandbox `$1` and all its processes, unless it has ended or session `$3` does not run it. */
export const killCommand = withExitCode(`
id=$2 dir=${recordsDirectory}/commands/$1/$2
${killMarked}
[ -d "$dir" ] || { echo none; exit 0; }
${awaitStart}
read -r session rest < "$dir/begun"
[ ! -s "$dir/exit" ] && [ "$session" = "$3" ] || exit 0
mkdir -p "$dir/killed"
killMarked
[ -s "$dir/exit" ]
`)

/** Deletes the record of command `$2` of sandbox `$1`, if it has ended. */
export const forgetCommand = withExitCode(`
dir=${recordsDirectory}/commands/$1/$2
[ ! -s "$dir/exit" ] || rm -rf -- "$dir"
`)

const refuse = `refuse() { echo "$1"; exit ${failedExitCode}; }`

/** Checks that `$2`, relative to directory `$1`, is a regular file that can be read. */
export const checkReadable = withExitCode(`
${refuse}
cd -- "$1" 2>/dev/null || refuse ": ${homeNotAccessible}"
[ -f "$2" ] || exit ${notFoundExitCode}
( : < "$2" ) 2>/dev/null || refuse ": Permission denied"
`)

/**
 * Replaces the file that `$3`, relative to directory `$2`, names or links to by the pieces uploaded as `$1`, atomically. The
 * file gets the mode `$4`, or keeps its own if that is empty. A second call finds that it is done.
 */
export const placeUpload = withExitCode(`
pieces=${uploadPrefix}$1
${refuse}
find /var/tmp -maxdepth 1 -type f -path '${uploadPrefix}*' -mmin +1440 -delete 2>/dev/null
[ ! -e "$pieces.done" ] || exit 0
cd -- "$2" 2>/dev/null || refuse ": ${homeNotAccessible}"
wanted=$3 mode=$4
${resolveTargetScript}
new="\${above}.castellan-$$"
(umask 077; cat "$pieces"-* 2>&1 > "$new") && chmod -- "$mode" "$new" 2>&1 && mv -fT -- "$new" "$file" 2>&1 &&
  : > "$pieces.done" && exit 0
rm -f -- "$new" 2>/dev/null
exit ${failedExitCode}
`)

/** Deletes the pieces uploaded as `$1`. */
export const discardUpload = withExitCode(`rm -f "${uploadPrefix}$1"-* "${uploadPrefix}$1.done"`)

/** Prints the entries of directories below `$2`, which is relative to directory `$1`, as base64 of `entryFormat`. */
export const listDirectories = withExitCode(`
${refuse}
cd -- "$1" 2>/dev/null || refuse ": ${homeNotAccessible}"
[ -d "$2" ] || exit ${notFoundExitCode}
cd -- "$2" 2>/dev/null && [ -r . ] || refuse ": Permission denied"
shift 2
find "$@" -mindepth 1 -maxdepth 1 -printf '${entryFormat}' 2>/dev/null | base64
`)

/** Prints `yes` if a program listens on port `$1`, given in hexadecimal. */
export const isListening = withExitCode(`
cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | while read -r _ local _ state _; do
  case "$local $state" in *:"$1 0A") echo yes; break ;; esac
done
`)
