import { randomBytes } from "node:crypto"
import { mkdir, readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"

const length = 32

/** The server's secret: made at the first start, and kept where only its user may read it. */
export const inDirectory = async (directory: string): Promise<Uint8Array> => {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const file = join(directory, "secret")
  try {
    await writeFile(file, randomBytes(length), { flag: "wx", mode: 0o600, flush: true })
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "EEXIST") throw cause
  }
  const secret = await readFile(file)
  if (secret.length !== length) throw new Error(`${file} does not hold ${length} bytes`)
  return secret
}
