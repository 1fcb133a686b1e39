/** Attacks from inside a sandbox, each with the protection that prevents it and a way to switch that off. */

/** A launch script without one protection. */
type Weakened = (launch: string) => string

export interface Attack {
  /** What the attacker does, to complete the sentence "A sandbox …". */
  readonly title: string
  /** Runs inside first; the sandbox is then stopped and started again. */
  readonly before?: string
  /** Runs inside as the sandbox's user, and prints `yes` as its last line if the attack succeeded. */
  readonly script: string
  /** Whether the script has all capabilities of the sandbox's own namespaces, which no program of a user ever has. */
  readonly withCapabilities?: boolean
  /** How the protection is switched off: by a weaker launch script, without a session, or without the hardened spawner. */
  readonly without: Weakened | "hardening" | "session"
  /** The bit in `CapEff` of the capability that the server needs to prevent the attack; absent if it needs none. */
  readonly capability?: number
}

const replaced = (launch: string, what: string, by: string): string => {
  if (!launch.includes(what)) throw new Error(`the launch script has no ${JSON.stringify(what)}`)
  return launch.replace(what, by)
}

/** The check that a sandbox starts as its own user. */
const usersCheck = '[ "$user" = 1000 ] || exit 1'

/** A single user namespace, whose mounts are not locked. */
const oneUserNamespace: Weakened = (launch) =>
  replaced(
    replaced(launch, "unshare --user --map-user=1000 --map-group=1000 --keep-caps", "unshare"),
    usersCheck,
    "true"
  )

/** `CAP_SYS_RESOURCE`. */
const sysResource = 24

/** System call numbers for the scripts. */
const { io_setup, keyctl, prctl } = {
  x64: { io_setup: 206, keyctl: 250, prctl: 157 },
  arm64: { io_setup: 0, keyctl: 219, prctl: 167 }
}[process.arch as "x64" | "arm64"]

const ifPerl = (expression: string) => `perl -e 'print((${expression}) ? "yes\n" : "no\n")'`

export const attacks: ReadonlyArray<Attack> = [
  {
    title: "makes the host's programs writable",
    withCapabilities: true,
    script: "mount -o remount,bind,rw /usr && echo yes",
    without: oneUserNamespace
  },
  {
    title: "unmounts the file over the loader's configuration",
    withCapabilities: true,
    script: "umount /etc/ld.so.preload && echo yes",
    without: oneUserNamespace
  },
  {
    title: "has capabilities in a program that enters it",
    script: "grep -q '^CapPrm:.*[1-9a-f]' /proc/self/status && echo yes",
    without: oneUserNamespace
  },
  {
    title: "creates its own user namespace",
    script: "unshare --user true && echo yes",
    without: (launch) => replaced(launch, "echo 1 > /proc/sys/user/max_user_namespaces", "true")
  },
  {
    title: "loads a library into every program",
    script: "rm -f /etc/ld.so.preload; echo /x > /etc/ld.so.preload; [ -s /etc/ld.so.preload ] && echo yes",
    without: (launch) =>
      replaced(launch, "mount -a -T fstab.files", "sed -i /ld.so.preload/d fstab.files; mount -a -T fstab.files")
  },
  {
    title: "starts as root of its namespaces by an entry in its own /etc/passwd",
    before:
      "cd /etc && for list in passwd group; do { echo 1000:x:0:0:r:/:/bin/sh; cat $list; } > new; rm -f $list; mv new $list; done",
    script: "grep -q '^ *0 ' /proc/self/uid_map && echo yes",
    without: (launch) =>
      replaced(
        replaced(launch, "mount -a -T fstab.files", "sed -i /castellan/d fstab.files; mount -a -T fstab.files"),
        usersCheck,
        "true"
      )
  },
  {
    title: "runs its own program while it starts",
    before:
      "mkdir -p /opt/own && cd /opt/own && printf '#!/bin/sh\necho caught > /home/user/caught\n' > hostname && chmod +x hostname",
    script: "[ -s /home/user/caught ] && echo yes",
    without: (launch) => `export PATH=/opt/own:$PATH\n${launch}`
  },
  {
    title: "shares a process group with programs of the server",
    script: "[ \"$(cut -d' ' -f5 /proc/self/stat)\" = 0 ] && echo yes",
    without: "session"
  },
  {
    title: "forges the arguments that the host reads",
    script: ifPerl(`$size = pack("L", 0), syscall(${prctl}, 35, 15, $size, 0, 0) == 0`),
    without: "hardening"
  },
  {
    title: "learns where the server keeps its data",
    script:
      "grep -q '/runtime' /proc/self/mountinfo && grep -v ' overlay ' /proc/self/mountinfo | grep -q /runtime && echo yes",
    without: (launch) =>
      replaced(launch, "\ncd root || exit 1", "\nmount --bind /tmp/runtime root/mnt\ncd root || exit 1")
  },
  {
    title: "reaches the keys of the host's session",
    script: ifPerl(`syscall(${keyctl}, 0, -3, 0) != -1`),
    without: "hardening"
  },
  {
    title: "creates contexts for asynchronous I/O",
    script: ifPerl(`$c = pack("Q", 0), syscall(${io_setup}, 1, $c) == 0`),
    without: "hardening"
  },
  {
    title: "listens to the kernel's device events",
    script: ifPerl("socket(S, 16, 3, 15)"),
    without: "hardening"
  },
  {
    title: "gains privileges from a program that it runs",
    script: "grep -q '^NoNewPrivs:.0' /proc/self/status && echo yes",
    without: "hardening"
  },
  {
    title: "lowers its out-of-memory score",
    capability: sysResource,
    script: "echo 0 > /proc/self/oom_score_adj && echo yes",
    without: "hardening"
  }
]
