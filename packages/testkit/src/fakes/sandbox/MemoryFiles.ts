import { FileMode, SandboxFile } from "@castellan/domain/sandbox/SandboxFile.ts"
import { DateTime } from "effect"

/** The home directory of every sandbox in memory. */
export const home = "/home/user"

/** A file, or a symbolic link if it has a target. */
interface Entry {
  readonly bytes: Uint8Array
  readonly at: number
  readonly mode: FileMode
  readonly target?: string
}

const defaultMode = FileMode.make("0644")

/** The most links that resolving a path follows. */
const maxLinks = 40

/** Makes a path absolute, without `.` and `..`. */
export const resolve = (cwd: string, path: string): string => {
  const parts: Array<string> = []
  for (const part of (path.startsWith("/") ? path : `${cwd}/${path}`).split("/")) {
    if (part === "..") parts.pop()
    else if (part !== "" && part !== ".") parts.push(part)
  }
  return `/${parts.join("/")}`
}

/** The most bytes of a file name. */
const maxNameBytes = 255

/** Why no file can ever exist at the path. */
export const refusalOf = (path: string): string | undefined => {
  if (path.split("/").some((name) => Buffer.byteLength(name) > maxNameBytes)) return "Its name is too long"
  return /\/\.{0,2}$/.test(path) ? "It is named like a directory" : undefined
}

/** Files by their path. A directory exists while it contains a file. */
export class MemoryFiles {
  private readonly entries: Map<string, Entry>

  constructor(entries: Iterable<readonly [string, Entry]> = []) {
    this.entries = new Map(entries)
  }

  copy(): MemoryFiles {
    return new MemoryFiles(this.entries)
  }

  /** The path with all links resolved; undefined if they form a loop. */
  private real(path: string): string | undefined {
    let left = path.split("/").slice(1)
    let at = ""
    for (let links = 0; left.length > 0;) {
      const [name, ...rest] = left
      const target = this.entries.get(`${at}/${name}`)?.target
      if (target === undefined) {
        at = `${at}/${name}`
        left = rest
      } else {
        if (++links > maxLinks) return undefined
        left = resolve(at, [target, ...rest].join("/"))
          .split("/")
          .slice(1)
        at = ""
      }
    }
    return at
  }

  read(path: string): Uint8Array | undefined {
    const at = this.real(path)
    return at === undefined ? undefined : this.entries.get(at)?.bytes
  }

  isDirectory(path: string): boolean {
    const at = this.real(path)
    if (at === undefined) return false
    const below = at === "/" ? "/" : `${at}/`
    return at === "/" || at === home || [...this.entries.keys()].some((file) => file.startsWith(below))
  }

  /** Whether the path is a link whose target does not exist. */
  isDangling(path: string): boolean {
    const at = this.real(path)
    return this.entries.get(path)?.target !== undefined && (at === undefined || !this.entries.has(at))
  }

  /** Whether a file can be written at the path: it is no directory, and no parent of it is a file. */
  canHoldFile(path: string): boolean {
    const at = this.real(path)
    if (at === undefined) return false
    const above = at
      .split("/")
      .slice(1, -1)
      .map((_, index, parts) => `/${parts.slice(0, index + 1).join("/")}`)
    return !this.isDirectory(at) && !above.some((directory) => this.entries.has(directory))
  }

  /** Writes a file, following links. Without a mode the file keeps its mode. */
  write(path: string, bytes: Uint8Array, at: number, mode?: FileMode): void {
    const file = this.real(path) ?? path
    this.entries.set(file, { bytes, at, mode: mode ?? this.entries.get(file)?.mode ?? defaultMode })
  }

  link(path: string, target: string, at: number): void {
    this.entries.set(path, { bytes: new TextEncoder().encode(target), at, mode: FileMode.make("0777"), target })
  }

  remove(path: string): void {
    this.entries.delete(path)
  }

  /** Moves a file or a link. */
  move(from: string, to: string): void {
    const entry = this.entries.get(from)
    if (entry === undefined) return
    this.entries.delete(from)
    this.entries.set(to, entry)
  }

  append(path: string, bytes: Uint8Array, at: number): void {
    this.write(path, Uint8Array.from([...(this.read(path) ?? []), ...bytes]), at)
  }

  /** The entries below a directory, up to `depth` levels deep. */
  list(directory: string, levels: number): ReadonlyArray<SandboxFile> {
    const real = this.real(directory) ?? directory
    const below = real === "/" ? "/" : `${real}/`
    const found = new Map<string, SandboxFile>()
    for (const [file, { at, bytes, mode, target }] of this.entries) {
      if (!file.startsWith(below)) continue
      const parts = file.slice(below.length).split("/")
      for (let depth = 1; depth <= Math.min(levels, parts.length); depth++) {
        const path = parts.slice(0, depth).join("/")
        const modifiedAt = DateTime.makeUnsafe(at)
        found.set(
          path,
          depth < parts.length
            ? new SandboxFile({ path, type: "directory", size: 0, mode: FileMode.make("0755"), modifiedAt })
            : target === undefined
              ? new SandboxFile({ path, type: "file", size: bytes.length, mode, modifiedAt })
              : new SandboxFile({ path, type: "link", size: bytes.length, mode, target, modifiedAt })
        )
      }
    }
    return [...found.values()].sort((a, b) => (a.path < b.path ? -1 : 1))
  }
}
