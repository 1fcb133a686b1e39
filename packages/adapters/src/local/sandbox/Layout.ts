/** Where everything lies in the provider's directory. The names are short: a chain of layers must fit in one mount. */
import type { CommandId } from "@castellan/domain/sandbox/Command.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import type { SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import { randomBytes } from "node:crypto"
import { closeSync, constants, openSync, readFileSync, readSync, renameSync, writeFileSync, writeSync } from "node:fs"
import { open, writeFile } from "node:fs/promises"
import { dirname, join } from "node:path"

export interface Layout {
  readonly root: string
  /** What all sandboxes see: their root, and layers with Node and npm. */
  readonly runtime: string
  /** The root directory of all sandboxes. */
  readonly runtimeRoot: string
  /** Node for sandboxes without isolation. */
  readonly node: string
  readonly sandboxes: string
  readonly layers: string
  readonly snapshots: string
  readonly trash: string
  /** Files that processes lock; see `Locks`. */
  readonly locks: string
  readonly layer: (id: string) => string
  readonly snapshot: (id: SnapshotId) => string
  readonly sandbox: (name: SandboxName) => SandboxLayout
}

export interface SandboxLayout {
  readonly root: string
  /** What is known of it: `Spec`. */
  readonly spec: string
  /** What its first process wrote of itself: a line of `/proc/PID/stat`. */
  readonly init: string
  /** Which of its starts counts: one that finds another here ends itself. */
  readonly start: string
  /** When it ends even if no server is there to end it, in seconds of the epoch; written in place, since it is kept open. */
  readonly deadline: string
  /** Its own files, above its layers. */
  readonly upper: string
  readonly work: string
  /** Where its layers and its own files are mounted together, and where its root is mounted; seen only by its processes. */
  readonly files: string
  readonly mount: string
  /** Places to mount on at its root that not all sandboxes have. */
  readonly extra: string
  /** A snapshot under way; see `Images`. */
  readonly moving: string
  readonly commands: string
  readonly command: (id: CommandId) => string
}

export const layout = (root: string): Layout => ({
  root,
  runtime: join(root, "runtime"),
  runtimeRoot: join(root, "runtime", "root"),
  node: join(root, "runtime", "node"),
  sandboxes: join(root, "sandboxes"),
  layers: join(root, "layers"),
  snapshots: join(root, "snapshots"),
  trash: join(root, "trash"),
  locks: join(root, "locks"),
  layer: (id) => join(root, "layers", id),
  snapshot: (id) => join(root, "snapshots", `${id}.json`),
  sandbox: (name) => {
    const own = join(root, "sandboxes", name)
    return {
      root: own,
      spec: join(own, "spec.json"),
      init: join(own, "init"),
      start: join(own, "start"),
      deadline: join(own, "deadline"),
      upper: join(own, "upper"),
      work: join(own, "work"),
      files: join(own, "files"),
      mount: join(own, "root"),
      extra: join(own, "extra"),
      moving: join(own, "moving.json"),
      commands: join(own, "commands"),
      command: (id) => join(own, "commands", id)
    }
  }
})

/** A short name for something new. */
export const fresh = (): string => randomBytes(6).toString("hex")

/**
 * Writes a file so that a crash of the server leaves the old one or the new one, and no half of either. What must also
 * survive a loss of power says so, and waits for the disk; the rest is small, and done at once costs less than waiting.
 */
export const writeWhole = async (file: string, value: unknown, options?: { readonly durable: true }): Promise<void> => {
  const next = `${file}.${fresh()}`
  const text = JSON.stringify(value)
  if (options?.durable) await writeFile(next, text, { mode: 0o600, flush: true })
  else writeFileSync(next, text, { mode: 0o600 })
  renameSync(next, file)
}

/** Writes over what a file holds, of the same length: who has it open reads the old or the new, and never nothing. */
export const overwrite = (file: string, text: string): void => {
  const descriptor = openSync(file, constants.O_WRONLY | constants.O_CREAT, 0o644)
  try {
    writeSync(descriptor, text, 0)
  } finally {
    closeSync(descriptor)
  }
}

/** Makes sure that a directory's entries survive a loss of power. */
export const syncDirectory = async (file: string): Promise<void> => {
  const handle = await open(dirname(file), "r")
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** What a file holds; undefined where there is none. */
export const readJson = <A>(file: string): A | undefined => {
  const text = readText(file)
  return text === undefined ? undefined : (JSON.parse(text) as A)
}

/** A small file's text, read at once; undefined where there is none. */
export const readText = (file: string): string | undefined => {
  try {
    return readFileSync(file, "utf8")
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return undefined
    throw cause
  }
}

/**
 * The first bytes of a file, as text; undefined where there is none, or where whoever owns it keeps others from it. A file
 * that a sandbox has open may be leased: opening it would then wait for the sandbox.
 */
export const readStart = (file: string, atMost: number): string | undefined => {
  try {
    const descriptor = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK)
    try {
      const bytes = Buffer.alloc(atMost)
      return bytes.toString("utf8", 0, readSync(descriptor, bytes, 0, atMost, 0))
    } finally {
      closeSync(descriptor)
    }
  } catch (cause) {
    if (["ENOENT", "EAGAIN", "EACCES"].includes((cause as NodeJS.ErrnoException).code!)) return undefined
    throw cause
  }
}
