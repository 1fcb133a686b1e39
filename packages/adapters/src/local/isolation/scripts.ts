/** The shell scripts that stand between the server and a sandbox. Nothing in them is put together from input. */
import { failedExitCode, resolveTargetScript, notFoundExitCode } from "../../sandbox/FileScripts.ts"
import { entryFormat } from "../../sandbox/Listing.ts"
import { collectGatedScript, emptyRecordScript } from "../../sandbox/CommandStart.ts"

/** Where programs of ours are looked for, on the host's side and inside: a sandbox can write to none of these. */
export const systemPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/** Where a sandbox's commands look for programs. */
export const path = `/opt/castellan/bin:${systemPath}`

/** Seconds between two looks of a sandbox at its own deadline. */
const lookAtDeadlineEvery = 30

/** The home directory inside. */
export const home = "/home/user"

/** How the script below ends when another start of the sandbox has left its mark and may still live. */
export const inTheWay = 46

/** A script as part of another one, within single quotes. */
const quoted = (script: string) => script.replaceAll("'", `'\\''`)

/** The descriptor by which a sandbox's timekeeper keeps the sandbox's deadline open. */
export const deadlineAs = 9

/**
 * Ends a sandbox that is overdue and that no server has ended. It runs beside the sandbox's first process: in its own copy
 * of the mounts, which shows the host's programs, and outside the process namespace of what runs in the sandbox. The
 * deadline is a file of the host that it keeps open, because no path leads to it later.
 */
const keepTime = `
{
while ! { read -r deadline < /proc/self/fd/${deadlineAs} && [ "$(date +%s)" -ge "$deadline" ]; }; do
  sleep ${lookAtDeadlineEvery}
done
kill -9 -1
} > /dev/null 2>&1 &
`

/**
 * Starts what a sandbox's commands run beside, as the first process of their namespaces; `$1` is `lo` if they have a
 * network of their own, `$2` the sandbox's name, for who looks at processes. It has all capabilities in these namespaces only, drops them before the sandbox counts as up, and
 * becomes a program that starts nothing and lets the kernel reap what is orphaned.
 */
const begin = `
read -r user rest < /proc/self/uid_map
[ "$user" = 1000 ] || exit 1
hostname sandbox 2>/dev/null &
if [ "$1" = lo ]; then
  ip link set lo up 2>/dev/null ||
    perl -e 'socket(S,2,2,0) && ioctl(S,0x8914,pack("a16sx14","lo",0x41))' 2>/dev/null || echo "no loopback" >&2
fi
wait
exec setpriv --inh-caps=-all --ambient-caps=-all --bounding-set=-all --no-new-privs \
  sh -c 'echo ready; exec env -i --ignore-signal=CHLD sleep infinity > /dev/null 2>&1'
`

/** Files that say who a user is, which programs with privileges read: in a sandbox's `/etc` they are the server's. */
export const userFiles = ["group", "nsswitch.conf", "passwd"]

/** The directory of the root that holds them. */
export const fixedFiles = ".castellan"

/** Files and directories of the host that a sandbox's `/etc` shows, read-only. */
export const etcFiles = ["ld.so.cache", "ld.so.conf", "localtime"]
export const etcDirectories = ["alternatives", "ca-certificates", "ld.so.conf.d", "pki", "ssl"]

/** Directories of a sandbox's files that it sees under the same names, and may write to. */
export const ownDirectories = ["etc", "home/user", "mnt", "opt", "srv", "var", "workspace"]

/**
 * Brings a sandbox up in two steps. This script runs as the root of a user namespace with its own mounts. It builds the
 * sandbox's root file system before any program of the sandbox runs. Then it starts `begin` in a second user namespace,
 * which owns all the other namespaces. There the mounts are locked: even root of the second namespace can't change them.
 *
 * `$1` is the sandbox's name, `$2` is `lo` if it has a network of its own, and `$3` is the start this is. The script
 * may be late, its server dead and another one at work. So it leaves its mark first, by which it can be ended, and then
 * checks whether its start still counts; whoever replaces the start writes that first, and then looks for the mark. One of
 * the two sees the other. The data directory is bound to a short path, so that no directory above it has to be open to the
 * user that this runs as.
 *
 * What an earlier run of the sandbox left is hostile: a directory or file that is mounted, or mounted on, must not be a
 * link. Nothing of the sandbox runs yet, so it can't change what has been checked. `$4` is how many processes it may have,
 * and `$5` is `new` if nothing ever ran in it; then `fstab` has all mounts.
 */
export const launch = `
read -r stat < /proc/self/stat
set -C
echo "$stat" > init || exit ${inTheWay}
set +C
read -r start < start && [ "$start" = "$3" ] || exit 1
exec ${deadlineAs}< deadline || exit 1
echo 500 > /proc/self/oom_score_adj
unshare --mount sh -c '${keepTime}' keeper "$1" &
keeper=$!
exec ${deadlineAs}<&-
mount -c --bind ../.. /tmp && cd "/tmp/sandboxes/$1" && mount -a -T fstab || exit 1
directory() {
  [ -d "files/$1" ] && [ ! -L "files/$1" ] || { rm -rf -- "files/$1" && mkdir -p -- "files/$1"; } || exit 1
}
file() {
  [ -f "files/$1" ] && [ ! -L "files/$1" ] || { rm -rf -- "files/$1" && : > "files/$1"; } || exit 1
}
if [ -z "$5" ]; then
for name in home ${ownDirectories.join(" ")} ${etcDirectories.map((name) => `etc/${name}`).join(" ")}; do
  directory "$name"
done
for name in ${["ld.so.preload", "resolv.conf", ...userFiles, ...etcFiles].map((name) => `etc/${name}`).join(" ")}; do
  file "$name"
done
while read -r name; do directory "$name"; done < others || exit 1
[ ! -e files/etc/iproute2 ] && [ ! -L files/etc/iproute2 ] || rm -rf files/etc/iproute2 || exit 1
mount -a -T fstab.files || exit 1
fi
wait "$keeper" || exit 1
cd root || exit 1
pivot_root . tmp && cd / && umount -l /tmp || exit 1
echo 1 > /proc/sys/user/max_user_namespaces
ulimit -p "$4" 2> /dev/null || ulimit -u "$4"
network=
if [ "$2" = lo ]; then network=--net; fi
exec setsid unshare --user --map-user=1000 --map-group=1000 --keep-caps --mount --pid --ipc --uts --cgroup $network \
  --fork --mount-proc sh -c '${quoted(begin)}' begin "$2" "$1"
`

/**
 * Ends a command and every process it started, as seen from the host: by the host's numbers, which nothing inside can
 * take or signal. \`$program\` is the process that the command was started as, \`$wrapper\` its parent, \`$init\` the
 * sandbox's first process; \`$command\` and \`$sandbox\` are the marks that the command's processes have in their
 * environment. A process that is not the wrapper's child only has the number of a program that has ended. All are stopped
 * before any is killed: a shell would print that its child was killed, and a process that runs could start more.
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
 * Ends a command in its directory: \`$1\` is the sandbox's first process, \`$2\` and \`$3\` are the marks of command and
 * sandbox.
 */
export const kill = `
${endCommand}
init=$1 command=$2 sandbox=$3 program= wrapper=
read -r program rest 2> /dev/null < program
read -r wrapper rest 2> /dev/null < begun/stat
endCommand
`

/**
 * Runs a command to its end on the host's side of the sandbox, in the command's directory, whether or not the server
 * lives on. \`$1\` is how much of each stream to keep, in blocks of 512 bytes, \`$2\` the sandbox's first process, \`$3\`
 * the seconds after which the command is ended, \`$4\` and \`$5\` the marks of command and sandbox; the rest is the
 * command, with what enters the sandbox before it, and \`startProgram\` last. Only the collectors are limited in what they
 * write, so an output that is too long is cut and its command goes on. Background children may hold the pipes for as long
 * as they like: the end is written when the command itself ends. The wrapper holds both ends of the pipes until then, and
 * gives the command the gate as an open descriptor, so that no collector waits for a command that was killed before it
 * opened them, or for pipes that were removed with the sandbox.
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
mkfifo o e gate
exec 5<> o 6<> e 7<> gate
(collect out) < o 5>&- 6>&- 7>&- &
out=$!
(collectGated err) < e 8< gate 5>&- 6>&- 7>&- &
err=$!
(
  read -r pid rest < /proc/self/stat
  echo "$pid" > program
  if [ -e killed ] || [ ! -e "/proc/$init/root" ]; then kill -KILL "$pid"; fi
  exec "$@" < /dev/null > o 2<> start 3> e 4>&7 7>&-
) 5>&- 6>&- &
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
rm -f o e gate
`

/** How a program ends whose directory can't be entered. */
export const noDirectory = 126

/** Runs a program of ours inside: \`$1\` is the directory, the rest the program as \`env\` takes it. */
export const inside = `cd -- "$1" || exit ${noDirectory}
shift
exec env -- "$@"`

/** Ends every process of the host that bears a mark \`$1\`, until none is left. */
export const killMarked = `
for round in 1 2 3 4 5 6 7 8 9 10; do
  pids=$(grep -lzxF -- "$1" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3)
  [ -n "$pids" ] || exit 0
  kill -9 $pids 2>/dev/null
done
exit 1
`

/** Writes a file's bytes to standard output; only a regular file's, so that no pipe can hold the reader. */
export const readFile = `
[ -f "$1" ] || exit ${notFoundExitCode}
cat < "$1" || exit ${failedExitCode}
`

/**
 * Writes standard input to a file beside the one that `$1` names or leads to, which takes its place once a word comes on
 * descriptor 3. It gets the mode `$2`, or where that is empty keeps the other's. Its name is not made of the other's, which
 * may be as long as names can be.
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
 * Prints the entries of directories below directory `$1`, in `entryFormat`. Directories that are gone or can't be read
 * are left out: `find` ends with 1 then.
 */
export const listFiles = `
[ -d "$1" ] || exit ${notFoundExitCode}
cd -- "$1" 2> /dev/null && [ -r . ] || { echo ": Permission denied" >&2; exit ${failedExitCode}; }
shift
find "$@" -mindepth 1 -maxdepth 1 -printf '${entryFormat}' 2> /dev/null || [ $? = 1 ]
`

/** Copies what a chain of layers shows into one new layer: in namespaces of its own, in the data directory. */
export const flatten = `
mount -c --bind . /tmp && cd /tmp && mkdir -p "flat/$1" || exit 1
mount -t overlay overlay -o "lowerdir=$2,userxattr" /mnt || exit 1
exec cp -a --no-preserve=ownership /mnt/. "flat/$1/"
`

/** Kilobytes that a sandbox counts as taking whose open files can't be looked at in time. */
const tooManyFiles = 1e12

/**
 * Prints how many kilobytes of removed files the programs of a sandbox hold open or mapped: a line for each first process,
 * which the arguments are, with its number and the kilobytes. A file counts once, however often it is open. A sandbox has
 * nothing at its root that it can replace, so the path to its processes leads there.
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
 * Removes a tree `$1`. A tree that another process removes at the same time counts as removed. Without isolation only its
 * owner may be there to open what is closed to the owner.
 */
export const removeTree = `
rm -rf -- "$1" && exit 0
chmod -R u+rwX -- "$1" 2> /dev/null
exec rm -rf -- "$1"
`

/**
 * Copies the package of npm \`$1\` into a new directory \`$2\`, with its programs under their names, for all to read. It is
 * on the disk before anybody can take it for whole.
 */
export const copyNpm = `
mkdir -p "$2/bin" && cp -R -- "$1" "$2/package" || exit 1
for program in npm npx; do ln -s "../package/bin/$program-cli.js" "$2/bin/$program" || exit 1; done
chmod -R a+rX "$2/../../.." && chmod a+x "$2"/package/bin/*-cli.js || exit 1
sync -f "$2" || sync
`
