/**
 * The system-call filter (seccomp) of sandboxes, as a classic BPF program. It refuses calls that programs in a sandbox do not
 * need and that bypass its namespaces: kernel keys, BPF, performance counters, asynchronous I/O, modules, clocks, and sockets
 * that are neither Unix nor Internet sockets. The reference is Docker's default profile.
 */
import { constants } from "node:os"

/**
 * Call numbers on `arm64` (those of `asm-generic/unistd.h`) and on `x64`. `io_uring_enter` is allowed: it needs a ring
 * from `io_uring_setup`, which is refused, and Node, which installs the filter, has created its ring before.
 */
const numbers = {
  arm64: {
    acct: 89,
    add_key: 217,
    adjtimex: 171,
    bpf: 280,
    clock_adjtime: 266,
    clock_settime: 112,
    delete_module: 106,
    fanotify_init: 262,
    finit_module: 273,
    init_module: 105,
    io_cancel: 3,
    io_destroy: 1,
    io_getevents: 4,
    io_setup: 0,
    io_submit: 2,
    io_uring_register: 427,
    io_uring_setup: 425,
    ioctl: 29,
    kexec_file_load: 294,
    kexec_load: 104,
    keyctl: 219,
    open_by_handle_at: 265,
    perf_event_open: 241,
    prctl: 167,
    quotactl: 60,
    quotactl_fd: 443,
    reboot: 142,
    request_key: 218,
    settimeofday: 170,
    socket: 198,
    swapoff: 225,
    swapon: 224,
    syslog: 116,
    userfaultfd: 282,
    vhangup: 58
  },
  x64: {
    acct: 163,
    add_key: 248,
    adjtimex: 159,
    bpf: 321,
    clock_adjtime: 305,
    clock_settime: 227,
    delete_module: 176,
    fanotify_init: 300,
    finit_module: 313,
    init_module: 175,
    io_cancel: 210,
    io_destroy: 207,
    io_getevents: 208,
    io_setup: 206,
    io_submit: 209,
    io_uring_register: 427,
    io_uring_setup: 425,
    ioctl: 16,
    ioperm: 173,
    iopl: 172,
    kexec_file_load: 320,
    kexec_load: 246,
    keyctl: 250,
    modify_ldt: 154,
    open_by_handle_at: 304,
    perf_event_open: 298,
    prctl: 157,
    quotactl: 179,
    quotactl_fd: 443,
    reboot: 169,
    request_key: 249,
    settimeofday: 164,
    socket: 41,
    swapoff: 168,
    swapon: 167,
    syslog: 103,
    userfaultfd: 323,
    vhangup: 153
  }
} as const

/** The call number of `keyctl`, for which the C library has no function. */
export const keyctlOf = (arch: Architecture): number => numbers[arch].keyctl

/** The architectures that have a filter, as `process.arch` names them. */
export type Architecture = keyof typeof numbers

export const hasFilter = (arch: string): arch is Architecture => arch in numbers

/** `AUDIT_ARCH_*` of `linux/audit.h`. */
const auditOf: Record<Architecture, number> = { arm64: 0xc000_00b7, x64: 0xc000_003e }

/** The first call number of the x32 ABI, which reaches the calls of the 64-bit architecture by other numbers. */
const x32 = 0x4000_0000

/** Offsets in `struct seccomp_data`: the call number, the architecture, and the low half of an argument. */
const atNumber = 0
const atArchitecture = 4
const argument = (index: number) => 16 + 8 * index

const unknownCall = constants.errno.ENOSYS
const notPermitted = constants.errno.EPERM
const noSuchFamily = constants.errno.EAFNOSUPPORT

/** Programs fall back to other calls when the kernel does not know these. */
const optional = /^io_/

const families = { unix: 1, inet: 2, inet6: 10, netlink: 16 }
const netlinkRoute = 0

/** The `ioctl` requests that insert input into a terminal: TIOCSTI and TIOCLINUX. */
const terminalInput = [0x5412, 0x541c]

/** The `prctl` request PR_SET_MM, by which a process forges the arguments and environment that `/proc` shows. */
const setMemoryMap = 35

type Instruction = readonly [code: number, ifTrue: number, ifFalse: number, value: number]

const load = (offset: number): Instruction => [0x20, 0, 0, offset]
const equals = (value: number, ifTrue: number, ifFalse: number): Instruction => [0x15, ifTrue, ifFalse, value]
const atLeast = (value: number, ifTrue: number, ifFalse: number): Instruction => [0x35, ifTrue, ifFalse, value]
const allow: Instruction = [0x06, 0, 0, 0x7fff_0000]
const refuse = (errno: number): Instruction => [0x06, 0, 0, 0x0005_0000 | errno]

const instructions = (arch: Architecture): ReadonlyArray<Instruction> => {
  const { ioctl, prctl, socket, ...refused } = numbers[arch]
  return [
    load(atArchitecture),
    equals(auditOf[arch], 1, 0),
    refuse(unknownCall),
    load(atNumber),
    ...(arch === "x64" ? [atLeast(x32, 0, 1), refuse(unknownCall)] : []),
    ...Object.entries(refused).flatMap(([name, number]) => [
      equals(number, 0, 1),
      refuse(optional.test(name) ? unknownCall : notPermitted)
    ]),
    equals(socket, 0, 9),
    load(argument(0)),
    equals(families.unix, 6, 0),
    equals(families.inet, 5, 0),
    equals(families.inet6, 4, 0),
    equals(families.netlink, 0, 2),
    load(argument(2)),
    equals(netlinkRoute, 1, 0),
    refuse(noSuchFamily),
    allow,
    equals(prctl, 0, 4),
    load(argument(0)),
    equals(setMemoryMap, 0, 1),
    refuse(notPermitted),
    allow,
    equals(ioctl, 0, 5),
    load(argument(1)),
    ...terminalInput.map((request, index) => equals(request, terminalInput.length - index, 0)),
    allow,
    refuse(notPermitted),
    allow
  ]
}

/** The filter as an array of `struct sock_filter`, eight bytes per instruction. */
export const filterOf = (arch: Architecture): Buffer => {
  const all = instructions(arch)
  const bytes = Buffer.alloc(8 * all.length)
  for (const [index, [code, ifTrue, ifFalse, value]] of all.entries()) {
    bytes.writeUInt16LE(code, 8 * index)
    bytes.writeUInt8(ifTrue, 8 * index + 2)
    bytes.writeUInt8(ifFalse, 8 * index + 3)
    bytes.writeUInt32LE(value, 8 * index + 4)
  }
  return bytes
}
