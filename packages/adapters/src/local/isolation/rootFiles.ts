/** The files that every sandbox sees: its root directory, its base layer, and the layer with Node. */
import { constants, existsSync, lstatSync, opendirSync } from "node:fs"
import { chmod, copyFile, lstat, mkdir, readlink, rename, rm, symlink, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { systemPath } from "../process/Spawn.ts"
import { randomId, readText } from "../storage/files.ts"

/** The home directory inside. */
export const home = "/home/user"

/** The directory of the pinned Node inside. */
const nodeDirectory = "opt/castellan/bin"

/** The `PATH` of a sandbox's commands. */
export const commandPath = `/${nodeDirectory}:${systemPath}`

/**
 * The files of `/etc` that define users, which programs with privileges read. The sandbox sees the server's own, read-only,
 * in place of its own.
 */
export const userFiles = ["group", "nsswitch.conf", "passwd"]

/** The directory of the root that has the user files. */
export const fixedFiles = ".castellan"

/** The files and directories of the host's `/etc` that a sandbox sees, read-only. */
export const etcFiles = ["ld.so.cache", "ld.so.conf", "localtime"]
export const etcDirectories = ["alternatives", "ca-certificates", "ld.so.conf.d", "pki", "ssl"]

/** The directories of a sandbox's own files, which it sees under the same names and may write to. */
export const ownDirectories = ["etc", "home/user", "mnt", "opt", "srv", "var", "workspace"]

/** The devices of the host that a sandbox sees. */
export const devices = ["null", "zero", "full", "random", "urandom", "tty"]

/** The directories of the host's root that every sandbox sees. A link among them becomes the same link in the sandbox. */
export const systemDirectories = ["usr", "bin", "sbin", "lib", "lib64", "lib32"]

/** The directories of a sandbox's root that are not its own files. */
const rootDirectories = ["dev/shm", "proc", "run", "tmp", "usr"]

/** The initial content of a sandbox's `/etc`. */
const etc: Record<string, string> = {
  passwd: `root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:${home}:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n`,
  group: "root:x:0:\nuser:x:1000:\nnogroup:x:65534:\n",
  hosts: "127.0.0.1 localhost sandbox\n::1 localhost\n",
  hostname: "sandbox\n",
  "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
  "resolv.conf": ""
}

/** Writes a file unless it already has that text: sandboxes that run may use it. */
const writeIfChanged = async (file: string, text: string) => {
  if (readText(file) !== text) await writeFile(file, text)
}

/** Creates the lowest layer of every sandbox's files. */
export const makeBase = async (base: string): Promise<void> => {
  for (const directory of [...ownDirectories, ...etcDirectories.map((name) => `etc/${name}`), "var/tmp"]) {
    await mkdir(join(base, directory), { recursive: true })
  }
  for (const [name, text] of Object.entries(etc)) await writeIfChanged(join(base, "etc", name), text)
  for (const name of ["ld.so.preload", ...etcFiles]) await writeIfChanged(join(base, "etc", name), "")
}

/** Creates the root directory of all sandboxes: mount points, and the links of the host's root. It is mounted read-only. */
export const makeRoot = async (root: string): Promise<void> => {
  for (const directory of [...rootDirectories, ...ownDirectories])
    await mkdir(join(root, directory), { recursive: true })
  const link = (target: string, name: string) => symlink(target, join(root, name)).catch(() => undefined)
  for (const name of systemDirectories) {
    const stat = await lstat(`/${name}`).catch(() => undefined)
    if (stat?.isSymbolicLink()) await link(await readlink(`/${name}`), name)
    else if (stat?.isDirectory()) await mkdir(join(root, name), { recursive: true })
  }
  await mkdir(join(root, fixedFiles), { recursive: true })
  for (const name of userFiles) await writeIfChanged(join(root, fixedFiles, name), etc[name]!)
  for (const device of devices) await writeIfChanged(join(root, "dev", device), "")
  const links = { fd: "/proc/self/fd", stdin: "/proc/self/fd/0", stdout: "/proc/self/fd/1", stderr: "/proc/self/fd/2" }
  for (const [name, target] of Object.entries(links)) await link(target, join("dev", name))
}

/**
 * Copies the pinned Node into a layer of every sandbox, unless it is there, and returns the layer's name. A copy, because no
 * sandbox should see a file that the host executes.
 */
export const ensureNodeLayer = async (runtime: string): Promise<string> => {
  const name = `layer-node-${process.version}`
  const target = join(runtime, name)
  if (existsSync(target)) return name
  const next = join(runtime, `next-node-${randomId()}`)
  const bin = join(next, nodeDirectory)
  await mkdir(bin, { recursive: true, mode: 0o755 })
  await copyFile(process.execPath, join(bin, "node"), constants.COPYFILE_FICLONE)
  await chmod(join(bin, "node"), 0o755)
  // Another process may have created the layer at the same time.
  await rename(next, target).catch(async (cause) => {
    await rm(next, { recursive: true, force: true })
    if (!existsSync(target)) throw cause
  })
  return name
}

export const isDirectory = (path: string) => lstatSync(path, { throwIfNoEntry: false })?.isDirectory() === true

/** The names that are mounted again if an earlier sandbox created a directory of that name at its root. */
const isPlainName = /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$/

/** The most such directories that are mounted, and the most entries that are read to find them. */
const maxExtraDirectories = 64

/**
 * The directories at the root of some layers that are not among the usual ones. Sandboxes could create them while their whole
 * root was writable.
 */
export const extraDirectories = (layers: ReadonlyArray<string>): ReadonlyArray<string> => {
  const usual = new Set([...rootDirectories, ...ownDirectories, ...systemDirectories].map((path) => path.split("/")[0]))
  const found = new Set<string>()
  for (const layer of layers) {
    if (!isDirectory(layer)) continue
    const directory = opendirSync(layer)
    try {
      for (let entries = 0; entries < maxExtraDirectories; entries++) {
        const entry = directory.readSync()
        if (entry === null) break
        if (entry.isDirectory() && isPlainName.test(entry.name) && !usual.has(entry.name)) found.add(entry.name)
      }
    } finally {
      directory.closeSync()
    }
  }
  return [...found].slice(0, maxExtraDirectories)
}
