/** The mounts of a sandbox, as lines of an `fstab` that the launch script mounts. */
import { existsSync } from "node:fs"
import { readText } from "../storage/files.ts"
import type { SandboxRecord } from "../storage/SandboxRecord.ts"
import { bundlePath, hostBundles } from "./Authority.ts"
import { npmLayer } from "./Npm.ts"
import {
  devices,
  etcDirectories,
  etcFiles,
  fixedFiles,
  isDirectory,
  ownDirectories,
  systemDirectories,
  userFiles
} from "./rootFiles.ts"

/** A mount in a sandbox's root. */
type Mount = readonly [source: string, target: string, type: string, options: string]

/** Decodes a path of `/proc/self/mountinfo`, which escapes blanks, tabs, line feeds and backslashes as octal numbers. */
const unescaped = (field: string) =>
  field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))

/**
 * The host's mounts below a directory, each with the options to remount it read-only in a sandbox: a read-only bind mount of
 * a tree does not change the mounts below it. The remount repeats the host's options, because only the host may drop them.
 */
const mountsBelow = (directory: string): ReadonlyArray<Mount> =>
  (readText("/proc/self/mountinfo") ?? "").split("\n").flatMap((line): ReadonlyArray<Mount> => {
    const [, , , , mountPoint = "", options = ""] = line.split(" ")
    if (!unescaped(mountPoint).startsWith(`${directory}/`)) return []
    const kept = options.split(",").filter((option) => option !== "rw" && option !== "ro")
    return [["none", mountPoint.slice(1), "none", ["remount", "bind", "ro", "nosuid", "nodev", ...kept].join(",")]]
  })

const readOnly = (path: string): ReadonlyArray<Mount> => [
  [path, path.slice(1), "none", "rbind,ro,nosuid,nodev"],
  ...mountsBelow(path)
]

/** The mounts of every sandbox other than its own files. */
const hostMounts = (): ReadonlyArray<Mount> => [
  ...systemDirectories.filter((name) => isDirectory(`/${name}`)).flatMap((name) => readOnly(`/${name}`)),
  ...devices.map((name): Mount => [`/dev/${name}`, `dev/${name}`, "none", "bind,nosuid,noexec"]),
  ["proc", "proc", "proc", "nosuid,nodev,noexec"],
  ["tmpfs", "dev/shm", "tmpfs", "nosuid,nodev,size=64m,mode=1777"],
  ["tmpfs", "run", "tmpfs", "nosuid,nodev,size=16m,mode=755"],
  ["tmpfs", "tmp", "tmpfs", "nosuid,nodev,size=512m,mode=1777"]
]

/**
 * The mounts over a sandbox's `/etc`: files of the host that programs need to link, to know the time zone and to trust
 * certificates, and an empty `ld.so.preload`.
 */
const etcMounts = (): ReadonlyArray<Mount> => [
  ...[...etcFiles, ...etcDirectories]
    .filter((name) => existsSync(`/etc/${name}`))
    .map((name): Mount => [`/etc/${name}`, `etc/${name}`, "none", "bind,ro,nosuid,nodev,noexec"]),
  ["/dev/null", "etc/ld.so.preload", "none", "bind,ro,nosuid,noexec"]
]

const line = (own: string, [source, target, type, options]: Mount) =>
  `${source} ${own}/root/${target} ${type} ${options} 0 0\n`

export interface Fstabs {
  /** The mounts that do not depend on the sandbox's own files. */
  readonly first: string
  /** The mounts of and over the sandbox's own files, once the launch script has checked those for links. */
  readonly ofFiles: string
}

/** Reads the host's mounts once; the function makes the fstabs of a sandbox. `nodeLayer` is the name of Node's layer. */
export const makeFstabs = (nodeLayer: string) => {
  const mounts = hostMounts()
  const overEtc = etcMounts()
  /** `extra` are directories at the root of the sandbox's files beyond the usual ones. */
  return (
    { chain, name, registry }: Pick<SandboxRecord, "name" | "chain" | "registry">,
    extra: ReadonlyArray<string>
  ): Fstabs => {
    const own = `/tmp/sandboxes/${name}`
    const lower = [
      ...chain.map((id) => `/tmp/layers/${id}`),
      ...(registry ? [`/tmp/runtime/${npmLayer()}`] : []),
      `/tmp/runtime/${nodeLayer}`,
      "/tmp/layers/base"
    ].join(":")
    const upper = `upperdir=${own}/upper,workdir=${own}/work`
    const overlays = [
      `overlay ${own}/root overlay lowerdir=${own}/extra:/tmp/runtime/root,userxattr,nosuid,nodev 0 0\n`,
      `overlay ${own}/files overlay lowerdir=${lower},${upper},userxattr,nosuid,nodev 0 0\n`
    ]
    const bound = [...ownDirectories, ...extra].map(
      (path) => `${own}/files/${path} ${own}/root/${path} none bind,nosuid,nodev 0 0\n`
    )
    const fixed = userFiles.map(
      (name) => `${own}/root/${fixedFiles}/${name} ${own}/root/etc/${name} none bind,ro,nosuid,nodev,noexec 0 0\n`
    )
    // Programs that read the host's bundle of certificates instead of a variable trust the gateway as well.
    const trusted = hostBundles
      .filter((path) => existsSync(`/${path}`))
      .map((path) => `${own}/root${bundlePath} ${own}/root/${path} none bind,ro,nosuid,nodev,noexec 0 0\n`)
    return {
      first: [...overlays, ...mounts.map((mount) => line(own, mount))].join(""),
      ofFiles: [...bound, ...fixed, ...overEtc.map((mount) => line(own, mount)), ...trusted].join("")
    }
  }
}
