/** One process at a time for a directory: a lock that the kernel lets go of when its holder dies, however it dies. */
import { createHash } from "node:crypto"
import { mkdir, rm, stat } from "node:fs/promises"
import { connect, createServer, type Server } from "node:net"
import { platform } from "node:os"
import { join } from "node:path"

/** Where the directory's holder listens: on Linux at a name that is no file, so that none is ever left behind. */
const addressOf = async (directory: string): Promise<string> => {
  if (platform() !== "linux") return join(directory, "lock")
  const { dev, ino } = await stat(directory)
  return `\0castellan-${createHash("sha256").update(`${dev}:${ino}`).digest("hex").slice(0, 32)}`
}

const listen = (address: string) =>
  new Promise<Server | undefined>((resolve, reject) => {
    const server = createServer((socket) => socket.destroy())
    server.unref()
    server.on("error", (cause: NodeJS.ErrnoException) =>
      cause.code === "EADDRINUSE" ? resolve(undefined) : reject(cause)
    )
    server.listen(address, () => resolve(server))
  })

const isAnswered = (address: string) =>
  new Promise<boolean>((resolve) => {
    const socket = connect(address)
    socket.on("connect", () => resolve(true))
    socket.on("error", () => resolve(false))
    socket.unref()
  })

/** Takes the directory, made if need be; gives what lets go of it, or undefined if another process has it. */
export const take = async (directory: string): Promise<(() => Promise<void>) | undefined> => {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const address = await addressOf(directory)
  let server = await listen(address)
  if (server === undefined && !address.startsWith("\0") && !(await isAnswered(address))) {
    await rm(address, { force: true })
    server = await listen(address)
  }
  const held = server
  return held && (() => new Promise((resolve) => held.close(() => resolve())))
}
