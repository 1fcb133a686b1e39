/** Reads compressed archives. */
import { Effect } from "effect"
import { createGunzip } from "node:zlib"
import { pipeline } from "node:stream/promises"
import { extract } from "tar-stream"
import { badRequest } from "./responses.ts"

/** A file of an archive. */
export interface TarFile {
  readonly name: string
  readonly mode: number
  readonly bytes: Buffer
}

const read = async (archive: Buffer): Promise<ReadonlyArray<TarFile>> => {
  const files: Array<TarFile> = []
  const reader = extract()
  reader.on("entry", ({ mode, name, type }, content, next) => {
    const pieces: Array<Buffer> = []
    content.on("data", (piece: Buffer) => pieces.push(piece))
    content.on("end", () => {
      if (type === "file") files.push({ name, mode: (mode ?? 0o644) & 0o7777, bytes: Buffer.concat(pieces) })
      next()
    })
  })
  await pipeline([archive], createGunzip(), reader)
  return files
}

/** The regular files of a gzipped tar; other entries are ignored. */
export const unpacked = (archive: Buffer) =>
  Effect.tryPromise({ try: () => read(archive), catch: () => badRequest("Invalid archive.") })
