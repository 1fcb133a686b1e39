/** Reads and writes the provider's own small files. */
import { randomBytes } from "node:crypto"
import {
  closeSync,
  constants,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  writeFileSync,
  writeSync
} from "node:fs"
import { open, writeFile } from "node:fs/promises"
import { dirname } from "node:path"

/** A random name of 12 hexadecimal digits: a mount with many layers must fit into 4096 bytes. */
export const randomId = (): string => randomBytes(6).toString("hex")

/**
 * Replaces a file atomically: after a crash of the server it has the old or the new content. A durable write also survives a
 * power loss; it waits for the disk. Other writes are synchronous, which costs less than waiting.
 */
export const writeJsonAtomically = async (
  file: string,
  value: unknown,
  options?: { readonly durable: true }
): Promise<void> => {
  const next = `${file}.${randomId()}`
  const text = JSON.stringify(value)
  if (options?.durable) await writeFile(next, text, { mode: 0o600, flush: true })
  else writeFileSync(next, text, { mode: 0o600 })
  renameSync(next, file)
}

/**
 * Overwrites a file with text of the same length and keeps its inode. A process that has the file open reads the old or the
 * new text, never an empty file.
 */
export const overwriteInPlace = (file: string, text: string): void => {
  const descriptor = openSync(file, constants.O_WRONLY | constants.O_CREAT, 0o644)
  try {
    writeSync(descriptor, text, 0)
  } finally {
    closeSync(descriptor)
  }
}

/** Flushes the directory of a file, so that the file's name survives a power loss. */
export const syncParentDirectory = async (file: string): Promise<void> => {
  const handle = await open(dirname(file), "r")
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

const isMissingError = (cause: unknown) => (cause as NodeJS.ErrnoException).code === "ENOENT"

/** The content of a JSON file; undefined if it does not exist. */
export const readJson = <A>(file: string): A | undefined => {
  const text = readText(file)
  return text === undefined ? undefined : (JSON.parse(text) as A)
}

/** The text of a small file; undefined if it does not exist. */
export const readText = (file: string): string | undefined => {
  try {
    return readFileSync(file, "utf8")
  } catch (cause) {
    if (isMissingError(cause)) return undefined
    throw cause
  }
}

/**
 * At most `maxBytes` from the start of a file, as text; undefined if the file does not exist or can't be read. A sandbox may
 * hold a lease on its file, which makes a blocking `open` wait; hence `O_NONBLOCK`.
 */
export const readPrefix = (file: string, maxBytes: number): string | undefined => {
  try {
    const descriptor = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK)
    try {
      const bytes = Buffer.alloc(maxBytes)
      return bytes.toString("utf8", 0, readSync(descriptor, bytes, 0, maxBytes, 0))
    } finally {
      closeSync(descriptor)
    }
  } catch (cause) {
    if (["ENOENT", "EAGAIN", "EACCES"].includes((cause as NodeJS.ErrnoException).code!)) return undefined
    throw cause
  }
}

/** The names in a directory; none if it does not exist. */
export const listNames = (directory: string): ReadonlyArray<string> => {
  try {
    return readdirSync(directory)
  } catch (cause) {
    if (isMissingError(cause)) return []
    throw cause
  }
}
