/** The scripts that handle commands and files of a sandbox. No input is inserted into the text of a script. */
import { failedExitCode, notFoundExitCode, resolveTargetScript } from "../../sandbox/FileScripts.ts"
import { entryFormat } from "../../sandbox/Listing.ts"
import { collectGatedScript, emptyRecordScript } from "../../sandbox/CommandStart.ts"

/**
 * Kills a command and every process that it started. It runs on the host and uses the host's process numbers, which nothing
 * inside can take or signal. `$program` is the process that the command was started as, `$wrapper` its parent, and
 * `$init` the sandbox's first process; `$command` and `$sandbox` are entries in the environment of the command's
 * processes. A process with the number of `$program` that is not the wrapper's child is a later, unrelated process. All
 * processes are stopped before any is killed: a shell would print that its child was killed, and a running process could start
 * more.
 */
const endCommand = `
isChild() {
  read -r stat 2> /dev/null < "/proc/$1/stat" || return 1
  set -- "$2" \${stat##*) }
  [ "$3" = "$1" ]
}
below() {
  isChild "$1" "$wrapper" || return
  next=$1
  while [ -n "$next" ]; do
    echo "$next"
    next=$(for pid in $next; do cat "/proc/$pid/task/"*/children; done 2> /dev/null)
  done
}
marked() {
  for process in /proc/[0-9]*; do
    [ "$process/ns/pid" -ef "/proc/$init/ns/pid_for_children" ] || continue
    grep -qzxF -- "$command" "$process/environ" 2> /dev/null || continue
    grep -qzxF -- "$sandbox" "$process/environ" 2> /dev/null && echo "\${process#/proc/}"
  done
}
endCommand() {
  stopped=
  for round in 1 2 3 4 5 6 7 8 9 10; do
    fresh=
    for pid in $(below "$program") $(marked); do
      case " $stopped $fresh " in *" $pid "*) ;; *) fresh="$fresh $pid" ;; esac
    done
    [ -n "$fresh" ] || break
    kill -STOP $fresh 2> /dev/null
    stopped="$stopped $fresh"
  done
  [ -z "$stopped" ] || kill -KILL $stopped 2> /dev/null
}
`

/**
 * Kills a command; runs in its directory. `$1` is the sandbox's first process, `$2` and `$3` are the environment entries
 * that mark the command and the sandbox.
 */
export const kill = `
${endCommand}
init=$1 command=$2 sandbox=$3 program= wrapper=
read -r program rest 2> /dev/null < program
read -r wrapper rest 2> /dev/null < begun/stat
endCommand
`

/**
 * Runs a command to its end, in the command's directory on the host, whether or not the server lives on. `$1` is the limit
 * of each output stream in blocks of 512 bytes, `$2` the sandbox's first process, `$3` the seconds after which the command
 * is killed, `$4` and `$5` the environment entries that mark the command and the sandbox. The rest is the command: what
 * enters the sandbox, and `startScript` last. Only the collectors have the size limit, so output that is too long is cut and
 * the command goes on. Background children may hold the pipes for as long as they like: the end is written when the command
 * itself ends. Until then the wrapper holds both ends of the pipes, so that no collector waits for a command that was killed
 * before it opened them.
 *
 * The pipes are those of here-documents, which have no path: a command could read a named pipe's path, in the server's data
 * directory, from `/proc/self/fd`. A shell that keeps here-documents in files gets named pipes.
 */
export const wrap = `
mkdir begun || exit 1
read -r stat < /proc/self/stat
echo "$stat" > begun/stat
echo 800 > /proc/self/oom_score_adj
blocks=$1 init=$2 seconds=$3 command=$4 sandbox=$5 wrapper=$$
shift 5
${endCommand}
${collectGatedScript}
${emptyRecordScript}
collect() { ulimit -f "$blocks"; trap '' XFSZ; cat > "$1" 2>/dev/null || cat > /dev/null; }
emptyRecord start
exec 5<<. 6<<. 7<<.
-
.
-
.
-
.
read -r line <&5 && read -r line <&6 && read -r line <&7
if [ -p /proc/self/fd/5 ]; then
  exec 5<> /proc/self/fd/5 6<> /proc/self/fd/6 7<> /proc/self/fd/7
else
  mkfifo o e gate
  exec 5<> o 6<> e 7<> gate
  rm -f o e gate
fi
(collect out) < /proc/self/fd/5 5>&- 6>&- 7>&- &
out=$!
(collectGated err) < /proc/self/fd/6 8< /proc/self/fd/7 5>&- 6>&- 7>&- &
err=$!
(
  read -r pid rest < /proc/self/stat
  echo "$pid" > program
  if [ -e killed ] || [ ! -e "/proc/$init/root" ]; then kill -KILL "$pid"; fi
  exec "$@" < /dev/null > /proc/self/fd/5 2<> start 3> /proc/self/fd/6 4>&7 5>&- 6>&- 7>&-
) &
program=$!
exec 7>&-
(
  last=$!
  trap '[ "$!" = "$last" ] || kill "$!"; exit' TERM
  sleep "$seconds" &
  wait "$!" || exit
  trap '' TERM
  [ -e exit ] || : > timedOut
  while [ -e begun ] && [ ! -e exit ] && isChild self "$wrapper"; do
    endCommand
    sleep 0.1
  done
  endCommand
) 5>&- 6>&- > /dev/null 2>&1 &
deadline=$!
wait "$program"
code=$?
by=exited
if [ ! -e "/proc/$init/root" ]; then by=lost; fi
echo "$by $code" > exit
kill "$deadline"
exec 5>&- 6>&-
wait "$out" "$err"
: > drained
`

/** The exit code of `inside` if the directory can't be entered. */
export const noDirectory = 126

/** Runs a program of the provider inside: `$1` is the directory, the rest the program as `env` takes it. */
export const inside = `cd -- "$1" || exit ${noDirectory}
shift
exec env -- "$@"`

/** Writes a file to standard output. Only a regular file: a pipe would block the reader. */
export const readFile = `
[ -f "$1" ] || exit ${notFoundExitCode}
cat < "$1" || exit ${failedExitCode}
`

/**
 * Writes standard input to a new file beside the one that `$1` names or links to, and renames it over that file once a line
 * arrives on descriptor 3. The file gets the mode `$2`, or keeps its mode if `$2` is empty. The temporary name does not
 * contain the file's name, which may already have the maximum length.
 */
export const writeFile = `
refuse() { echo "$1" >&2; exit ${failedExitCode}; }
wanted=$1 mode=$2
${resolveTargetScript}
new="\${above}.castellan-$$"
(umask 077; cat > "$new") && chmod -- "$mode" "$new" && read -r word <&3 && mv -fT -- "$new" "$file" && exit 0
rm -f -- "$new" 2> /dev/null
exit ${failedExitCode}
`

/**
 * Prints the entries of directories below directory `$1`, in `entryFormat`. It skips directories that are gone or can't be
 * read: `find` exits with 1 then.
 */
export const listFiles = `
[ -d "$1" ] || exit ${notFoundExitCode}
cd -- "$1" 2> /dev/null && [ -r . ] || { echo ": Permission denied" >&2; exit ${failedExitCode}; }
shift
find "$@" -mindepth 1 -maxdepth 1 -printf '${entryFormat}' 2> /dev/null || [ $? = 1 ]
`

/** Copies the merged view of a chain of layers into one new layer, in its own namespaces; runs in the data directory. */
export const flatten = `
mount -c --bind . /tmp && cd /tmp && mkdir -p "flat/$1" || exit 1
mount -t overlay overlay -o "lowerdir=$2,userxattr" /mnt || exit 1
exec cp -a --no-preserve=ownership /mnt/. "flat/$1/"
`

/**
 * Prints the disk usage of directories: for each directory in the arguments, a line with its name, kilobytes and inodes. A file
 * with several links counts once. If the walk takes too long, the numbers are what it found by then.
 */
export const measureTrees = `
timeout 60 find "$@" -printf '%H %y %n %D:%i %k\\n' 2> /dev/null |
  awk '$2 == "d" || $3 == 1 || !seen[$4]++ { kilobytes[$1] += $5; inodes[$1]++ }
    END { for (name in inodes) printf "%s %.0f %d\\n", name, kilobytes[name], inodes[name] }'
`

/** The kilobytes counted for a sandbox whose open files can't be listed in time. */
const tooManyFiles = 1e12

/**
 * Prints the kilobytes of deleted files that the processes of sandboxes hold open or mapped: for each first process in the
 * arguments, a line with its number and the kilobytes. A file counts once, however often it is open. A sandbox can't replace
 * entries at its root, so the path leads to its processes.
 */
export const measureRemoved = `
for init in "$@"; do
  root=/proc/$init/root
  kilobytes=$(
    {
      timeout 10 find -L "$root/proc/"[0-9]*/fd "$root/proc/"[0-9]*/map_files \\
        -maxdepth 1 -type f -links 0 -printf '%D %i %k\\n' 2> /dev/null
      [ "$?" != 124 ] || echo "0 0 ${tooManyFiles}"
    } | sort -u | awk '{ sum += $3 } END { printf "%.0f", sum }'
  )
  echo "$init $kilobytes"
done
`

/**
 * Removes a tree `$1`. A tree that another process removes at the same time counts as removed. Without isolation the server
 * is only the owner of the files, and may have to open directories that are closed to the owner.
 */
export const removeTree = `
rm -rf -- "$1" && exit 0
chmod -R u+rwX -- "$1" 2> /dev/null
exec rm -rf -- "$1"
`
