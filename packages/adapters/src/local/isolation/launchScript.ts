/** The script that starts a sandbox in namespaces. No input is inserted into the text of a script. */
import { etcDirectories, etcFiles, ownDirectories, userFiles } from "./rootFiles.ts"

/** Seconds between two checks of a sandbox's own deadline. */
const checkDeadlineEvery = 30

/** Exit code of `launch` if another start of the sandbox is recorded and may be running. */
export const staleStartCode = 46

/** A script as part of another one, within single quotes. */
const quoted = (script: string) => script.replaceAll("'", `'\\''`)

/** The descriptor by which a sandbox's timekeeper keeps the deadline file open. */
export const deadlineDescriptor = 9

/**
 * Kills a sandbox that is overdue and that no server has stopped. It runs beside the sandbox's first process: in its own copy
 * of the mounts, which shows the host's programs, and outside the process namespace of the sandbox's commands. It keeps the
 * deadline file open because no path leads there later.
 */
const timekeeper = `
{
while ! { read -r deadline < /proc/self/fd/${deadlineDescriptor} && [ "$(date +%s)" -ge "$deadline" ]; }; do
  sleep ${checkDeadlineEvery}
done
kill -9 -1
} > /dev/null 2>&1 &
`

/**
 * The first process of a sandbox's namespaces; commands run beside it. `$1` is the sandbox's name, for lists of
 * processes. The process has all capabilities in these namespaces only and drops them before
 * the sandbox counts as started. Small TCP buffers keep many unread connections from using up the host's memory for TCP. The
 * process then becomes a program that starts nothing and lets the kernel reap orphans.
 */
const firstProcess = `
read -r user rest < /proc/self/uid_map
[ "$user" = 1000 ] || exit 1
hostname sandbox 2>/dev/null &
echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start
echo 4096 131072 262144 2>/dev/null > /proc/sys/net/ipv4/tcp_rmem
echo 4096 65536 262144 2>/dev/null > /proc/sys/net/ipv4/tcp_wmem
ip link set lo up 2>/dev/null ||
  perl -e 'socket(S,2,2,0) && ioctl(S,0x8914,pack("a16sx14","lo",0x41))' 2>/dev/null || echo "no loopback" >&2
wait
exec setpriv --inh-caps=-all --ambient-caps=-all --bounding-set=-all --no-new-privs \
  sh -c 'echo ready; exec env -i --ignore-signal=CHLD sleep infinity > /dev/null 2>&1'
`

/**
 * Starts a sandbox in two steps. This script runs as the root of a user namespace with its own mounts. It builds the sandbox's
 * root file system before any program of the sandbox runs. Then it starts `firstProcess` in a second user namespace, which owns
 * all the other namespaces. There the mounts are locked: even root of the second namespace can't change them.
 *
 * `$1` is the sandbox's name, and `$2` is the token of this start. The script may run
 * late, after its server died and another one took over. So it first leaves its mark (`init`), by which it can be killed, and
 * then checks that its token still counts; a server that replaces the token writes that first and then looks for the mark. One
 * of the two sees the other. The data directory is bound to a short path, so that the user of this script needs no access to
 * the directories above it.
 *
 * The files of an earlier run of the sandbox are hostile: a directory or file that is mounted, or mounted on, must not be a
 * link. No program of the sandbox runs yet, so it can't change what was checked. `$3` is the limit of processes, and `$4` is
 * `new` if no program ever ran in the sandbox; then `fstab` has all mounts.
 */
export const launch = `
read -r stat < /proc/self/stat
set -C
echo "$stat" > init || exit ${staleStartCode}
set +C
read -r start < start && [ "$start" = "$2" ] || exit 1
exec ${deadlineDescriptor}< deadline || exit 1
echo 500 > /proc/self/oom_score_adj
unshare --mount sh -c '${timekeeper}' keeper "$1" &
keeper=$!
exec ${deadlineDescriptor}<&-
mount -c --bind ../.. /tmp && cd "/tmp/sandboxes/$1" && mount -a -T fstab || exit 1
directory() {
  [ -d "files/$1" ] && [ ! -L "files/$1" ] || { rm -rf -- "files/$1" && mkdir -p -- "files/$1"; } || exit 1
}
file() {
  [ -f "files/$1" ] && [ ! -L "files/$1" ] || { rm -rf -- "files/$1" && : > "files/$1"; } || exit 1
}
if [ -z "$4" ]; then
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
ulimit -p "$3" 2> /dev/null || ulimit -u "$3"
exec setsid unshare --user --map-user=1000 --map-group=1000 --keep-caps --mount --pid --ipc --uts --cgroup --net \
  --fork --mount-proc sh -c '${quoted(firstProcess)}' begin "$1"
`
