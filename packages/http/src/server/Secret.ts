/** The server's secret: 32 random bytes in a file of the data directory. */
import { randomBytes } from "node:crypto"
import { existsSync } from "node:fs"
import { link, mkdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises"
import { dirname, join } from "node:path"

const length = 32

/** Creates a directory and its parents. Node's `recursive` option hangs if the file system refuses, as /proc does. */
const makeDirectory = async (directory: string): Promise<void> => {
  const make = async () => {
    try {
      await mkdir(directory, { mode: 0o700 })
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== "EEXIST" || !(await stat(directory)).isDirectory()) throw cause
    }
  }
  try {
    await make()
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "ENOENT" || dirname(directory) === directory) throw cause
    await makeDirectory(dirname(directory))
    await make()
  }
}

const fileIn = (directory: string) => join(directory, "secret")

const read = async (file: string): Promise<Uint8Array> => {
  const secret = await readFile(file)
  if (secret.length !== length) throw new Error(`${file} does not hold ${length} bytes`)
  return secret
}

/** The secret in this directory, which only the server's user can read. Creates it if it is missing. */
export const inDirectory = async (directory: string): Promise<Uint8Array> => {
  await makeDirectory(directory)
  const file = fileIn(directory)
  if (!existsSync(file)) await make(file)
  return read(file)
}

/** The secret in this directory; undefined if there is none. */
export const existing = async (directory: string): Promise<Uint8Array | undefined> => {
  const file = fileIn(directory)
  return existsSync(file) ? read(file) : undefined
}

/** Links a complete file into place, so that servers that start at the same time, or are killed, never see a partial one. */
const make = async (file: string): Promise<void> => {
  const next = `${file}.${randomBytes(6).toString("hex")}`
  await writeFile(next, randomBytes(length), { flag: "wx", mode: 0o600, flush: true })
  try {
    await link(next, file)
  } catch (cause) {
    // On a file system without hard links the last of several servers wins.
    if ((cause as NodeJS.ErrnoException).code !== "EEXIST") await rename(next, file)
  } finally {
    await rm(next, { force: true })
  }
}
