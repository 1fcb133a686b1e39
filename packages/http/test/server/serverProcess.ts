/** The server as a process of its own, with a data directory that is cleared away. */
import { Effect, Schedule } from "effect"
import { type ChildProcess, spawn, type StdioOptions } from "node:child_process"
import { once } from "node:events"
import { cp, mkdtemp, readdir, readFile, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { inject } from "vitest"
import { migratedUrl } from "../../../adapters/test/postgres/databases.ts"
import type {} from "../migratedDatabase.ts"

const launcher = fileURLToPath(new URL("../../../cli/bin/castellan.mjs", import.meta.url))

/** Ends the sandboxes that a server left running, as they are meant to be. */
const endSandboxes = async (directory: string) => {
  const sandboxes = join(directory, "local", "sandboxes")
  for (const name of await readdir(sandboxes).catch(() => [])) {
    const init = await readFile(join(sandboxes, name, "init"), "utf8").catch(() => "0")
    const pid = Number.parseInt(init, 10)
    try {
      if (pid > 1) process.kill(pid, "SIGKILL")
    } catch (cause) {
      // It has ended by itself.
      if ((cause as NodeJS.ErrnoException).code !== "ESRCH") throw cause
    }
  }
}

/** An empty directory for a server's data; what runs in it is ended with the scope. */
export const dataDirectory = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "castellan-server-"))),
  (directory) =>
    Effect.promise(async () => {
      await endSandboxes(directory)
      // Programs that a sandbox started may still write for a moment.
      await rm(directory, { recursive: true, force: true, maxRetries: 10 })
    })
)

/** The same, with a database in it as an earlier server leaves it before anything was asked of it. */
export const usedDirectory = Effect.tap(dataDirectory, (directory) =>
  Effect.promise(() => cp(inject("migratedDirectory"), join(directory, "postgres"), { recursive: true }))
)

/**
 * Settings of a server with an empty data directory and a migrated Postgres database. It starts in a third of the time
 * that one with an embedded database takes.
 */
export const onPostgres = Effect.gen(function* () {
  return { CASTELLAN_DATA_DIR: yield* dataDirectory, DATABASE_URL: yield* migratedUrl }
})

/** A server's process, and all it said so far. */
export interface Running {
  readonly child: ChildProcess
  readonly said: () => string
}

interface Host {
  /** Descriptors that the server may have open; as many as this process if left out. */
  readonly descriptors?: number
  /** Where its output goes; to pipes that the test reads if left out. */
  readonly stdio?: StdioOptions
}

/** A server that may or may not come up. Its sandboxes have no network, which costs them less, unless a test says so. */
export const started = (environment: Record<string, string>, { descriptors, stdio = "pipe" }: Host = {}) =>
  Effect.acquireRelease(
    Effect.sync((): Running => {
      const { PATH = "" } = process.env
      const server = [process.execPath, launcher, "serve"]
      const limited = ["sh", "-c", `ulimit -n ${descriptors} && exec "$@"`, "sh", ...server]
      const [program, ...args] = descriptors === undefined ? server : limited
      const child = spawn(program!, args, {
        stdio,
        env: { PATH, PORT: "0", CASTELLAN_NETWORK: "none", ...environment }
      })
      let text = ""
      for (const pipe of [child.stdout, child.stderr]) pipe?.setEncoding("utf8").on("data", (chunk) => (text += chunk))
      return { child, said: () => text }
    }),
    ({ child }) =>
      Effect.promise(async () => {
        if (child.exitCode !== null || child.signalCode !== null) return
        child.kill("SIGTERM")
        await once(child, "exit")
      })
  )

/** The server once it has said where it listens; it fails with what was said where there will be none. */
export const listening = Effect.fnUntraced(function* (environment: Record<string, string>, host?: Host) {
  const server = yield* started(environment, host)
  const url = yield* Effect.suspend(() => {
    const found = /listens on (\S+)/.exec(server.said())?.[1]
    return found !== undefined && server.said().includes("sandboxes  ")
      ? Effect.succeed(found)
      : Effect.fail(server.said())
  }).pipe(
    Effect.retry({
      schedule: Schedule.spaced("50 millis"),
      times: 4000,
      while: () => server.child.exitCode === null && server.child.signalCode === null
    })
  )
  return { ...server, url, key: /^ {2}(cst_\w+)$/m.exec(server.said())?.[1] }
})

/** Ends it as a crash would. */
export const killed = ({ child }: Running) =>
  Effect.promise(async () => {
    child.kill("SIGKILL")
    await once(child, "exit")
  })
