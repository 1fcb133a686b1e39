import { SandboxFile } from "@castellan/domain/sandbox/SandboxFile.ts"
import { DateTime } from "effect"

/** The home directory of every sandbox in memory. */
export const home = "/home/user"

interface Entry {
  readonly bytes: Uint8Array
  readonly at: number
}

/** A path as the file system sees it: absolute, without `.` and `..`. */
export const resolve = (cwd: string, path: string): string => {
  const parts: Array<string> = []
  for (const part of (path.startsWith("/") ? path : `${cwd}/${path}`).split("/")) {
    if (part === "..") parts.pop()
    else if (part !== "" && part !== ".") parts.push(part)
  }
  return `/${parts.join("/")}`
}

/** Bytes that a name may have. */
const longestName = 255

/** Why no file can stand at the path, whatever is there by now. */
export const refusalOf = (path: string): string | undefined => {
  if (path.split("/").some((name) => Buffer.byteLength(name) > longestName)) return "Its name is too long"
  return /\/\.{0,2}$/.test(path) ? "It is named like a directory" : undefined
}

/** Files by their path; a directory is there as long as something is in it. */
export class MemoryFiles {
  private readonly entries: Map<string, Entry>

  constructor(entries: Iterable<readonly [string, Entry]> = []) {
    this.entries = new Map(entries)
  }

  copy(): MemoryFiles {
    return new MemoryFiles(this.entries)
  }

  read(path: string): Uint8Array | undefined {
    return this.entries.get(path)?.bytes
  }

  isDirectory(path: string): boolean {
    const below = path === "/" ? "/" : `${path}/`
    return path === "/" || path === home || [...this.entries.keys()].some((file) => file.startsWith(below))
  }

  /** Whether a file may stand at the path: no directory does, and none of the directories above it is a file. */
  mayHold(path: string): boolean {
    const above = path
      .split("/")
      .slice(1, -1)
      .map((_, index, parts) => `/${parts.slice(0, index + 1).join("/")}`)
    return !this.isDirectory(path) && !above.some((directory) => this.entries.has(directory))
  }

  write(path: string, bytes: Uint8Array, at: number): void {
    this.entries.set(path, { bytes, at })
  }

  remove(path: string): void {
    this.entries.delete(path)
  }

  append(path: string, bytes: Uint8Array, at: number): void {
    this.write(path, Uint8Array.from([...(this.read(path) ?? []), ...bytes]), at)
  }

  list(directory: string, recursive: boolean): ReadonlyArray<SandboxFile> {
    const below = directory === "/" ? "/" : `${directory}/`
    const found = new Map<string, SandboxFile>()
    for (const [file, { at, bytes }] of this.entries) {
      if (!file.startsWith(below)) continue
      const parts = file.slice(below.length).split("/")
      for (let depth = 1; depth <= (recursive ? parts.length : 1); depth++) {
        const path = parts.slice(0, depth).join("/")
        const isFile = depth === parts.length
        const modifiedAt = DateTime.makeUnsafe(at)
        found.set(
          path,
          new SandboxFile({ path, type: isFile ? "file" : "directory", size: isFile ? bytes.length : 0, modifiedAt })
        )
      }
    }
    return [...found.values()].sort((a, b) => (a.path < b.path ? -1 : 1))
  }
}
