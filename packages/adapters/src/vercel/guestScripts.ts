/**
 * The shell scripts that run in a sandbox. Nothing in them is put together from input. What they keep of commands is
 * outside the home directory, in files that a snapshot keeps as well, so that any server finds it again.
 */
import { failedExitCode, resolveTargetScript, homeNotAccessible, notFoundExitCode } from "../sandbox/FileScripts.ts"
import { entryFormat } from "../sandbox/Listing.ts"
import { collectGatedScript, emptyRecordScript } from "../sandbox/CommandStart.ts"

/** Where commands are recorded inside: on the disk, and open to whichever user the image has. */
export const recordsDirectory = "/var/tmp/castellan"

/** What uploaded pieces of files are named like: beside each other where anybody may put something. */
export const uploadPrefix = "/var/tmp/castellan-upload-"

/** What every process of a command has in its environment: its id. */
export const commandVariable = "CASTELLAN_COMMAND"

/** What the variables that bring a command its own are named, each with a number: `NAME=value` is in each. */
export const variablePrefix = "CASTELLAN_VARIABLE_"

/** Bytes that are read of an output at once. */
export const pieceSize = 192 * 1024

/**
 * Ends what bears a command's mark and what is below it in the tree, until its end is written down: what was given other
 * rights lost its environment, and only who may become root reaches it. All is stopped before anything is killed: a shell
 * would print that its child was killed.
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

/** How a script ends is its last line; what has none was cut off. */
const over = "="

/** The exit code that a line tells, if it is the last. */
export const exitCodeIn = (line: string): number | undefined =>
  new RegExp(`^${over} (\\d{1,3})$`).test(line) ? Number(line.slice(over.length + 1)) : undefined

const telling = (script: string) => `(\n${script}\n)\necho "${over} $?"`

/** Waits a little for what was begun to be written down: it is, but for a moment. */
const begun = `
left=20
while [ ! -s "$dir/begun" ] && [ "$left" -gt 0 ]; do sleep 0.1; left=$((left - 1)); done
`

/** What is written down of a command. */
const tell = `
echo "begun $(cat "$dir/begun" 2>/dev/null)"
[ ! -s "$dir/exit" ] || echo "ended $(head -n 1 "$dir/exit")"
`

/**
 * Runs a command to its end, unless one of that id was begun before: to make its directory is to have its turn. What is
 * written down of it is told at once. `$1` is the sandbox, `$2` its id, `$3` the session, `$4` how much of each stream to
 * keep, in blocks of 512 bytes, `$5` its time in seconds; the rest is the command. What a snapshot brought of another
 * sandbox's commands goes. The room for how it ends is taken first: a disk that is full by then still holds that. Only the
 * collectors are limited in what they write, so an output that is too long is cut and its command goes on. Background
 * children may hold the pipes for as long as they like: the end is written when the command itself ends. It runs below a
 * shell of its own, or this one would print to its pipes that it was killed.
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
  ${begun}
  ${tell}
  echo "${over} 0"
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
${tell}
echo "${over} 0"
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
 * Gives a program its variables: `$1` is the home directory, `$2` how many variables there are, the rest the program,
 * which is \`startProgram\`. They come by the environment: arguments are for everybody to read.
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

/** What is known of command `$2` of sandbox `$1`. */
export const inspectCommand = telling(`
dir=${recordsDirectory}/commands/$1/$2
[ -d "$dir" ] || exit 0
${begun}
${tell}
`)

/** Seconds that a script waits for news at a stretch: less than the shortest time after which streams are cut. */
const atAStretch = 200

/** Sleeps shortly at first, and says that it is there from time to time. */
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
most=${40 + atAStretch * 4}
`

/**
 * What is known of command `$2` of sandbox `$1` once it has ended or session `$3` does not run it, or after a stretch of
 * waiting.
 */
export const awaitCommand = telling(`
dir=${recordsDirectory}/commands/$1/$2
${nap}
[ -d "$dir" ] || exit 0
echo .
${begun}
read -r session rest < "$dir/begun"
while [ "$session" = "$3" ] && [ ! -s "$dir/exit" ] && [ "$naps" -lt "$most" ]; do nap; done
${tell}
`)

/**
 * The output of command `$2` of sandbox `$1` from `$3` of out and `$4` of err on, in pieces of base64; `$5` is the session
 * that runs, so that what another left is known to be over. Says `end` once there is no more to come.
 */
export const followOutput = telling(`
dir=${recordsDirectory}/commands/$1/$2 outAt=$3 errAt=$4 running=$5
${nap}
[ -d "$dir" ] || { echo none; exit 0; }
echo .
${begun}
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
  # Children left behind may hold the pipes, and fill them, for ever; that is no longer the command's output.
  if [ "$over" = most ]; then since=$((since + 1)); fi
  nap
done
`)

/** Ends command `$2` of sandbox `$1` and all it started, unless it has ended by itself, or session `$3` does not run it. */
export const killCommand = telling(`
id=$2 dir=${recordsDirectory}/commands/$1/$2
${killMarked}
[ -d "$dir" ] || { echo none; exit 0; }
${begun}
read -r session rest < "$dir/begun"
[ ! -s "$dir/exit" ] && [ "$session" = "$3" ] || exit 0
mkdir -p "$dir/killed"
killMarked
[ -s "$dir/exit" ]
`)

/** Forgets command `$2` of sandbox `$1`, if it has ended. */
export const forgetCommand = telling(`
dir=${recordsDirectory}/commands/$1/$2
[ ! -s "$dir/exit" ] || rm -rf -- "$dir"
`)

const refuse = `refuse() { echo "$1"; exit ${failedExitCode}; }`

/** Looks whether `$2`, from directory `$1`, is a regular file that can be read. */
export const checkReadable = telling(`
${refuse}
cd -- "$1" 2>/dev/null || refuse ": ${homeNotAccessible}"
[ -f "$2" ] || exit ${notFoundExitCode}
( : < "$2" ) 2>/dev/null || refuse ": Permission denied"
`)

/**
 * Puts the pieces that were uploaded as `$1` in the place of the file that `$3` names or leads to, from directory `$2`:
 * whole, by way of a file beside it. It gets the mode `$4`, or where that is empty keeps the other's. When it is asked again
 * it has been done, and the pieces are gone.
 */
export const placeUpload = telling(`
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

/** Forgets pieces that were uploaded as `$1`. */
export const discardUpload = telling(`rm -f "${uploadPrefix}$1"-* "${uploadPrefix}$1.done"`)

/** Prints the entries of directories below directory `$2`, from directory `$1`: base64 of `entryFormat`. */
export const listDirectories = telling(`
${refuse}
cd -- "$1" 2>/dev/null || refuse ": ${homeNotAccessible}"
[ -d "$2" ] || exit ${notFoundExitCode}
cd -- "$2" 2>/dev/null && [ -r . ] || refuse ": Permission denied"
shift 2
find "$@" -mindepth 1 -maxdepth 1 -printf '${entryFormat}' 2>/dev/null | base64
`)

/** Whether something listens on port `$1`, which is in hexadecimal, at the loopback or at all addresses. */
export const isListening = telling(`
cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | while read -r _ local _ state _; do
  case "$local $state" in *:"$1 0A") echo yes; break ;; esac
done
`)
