/** Runs the server as a process with a data directory that is removed afterwards. */
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

/** Ends the sandboxes that a server left running. A server leaves them on purpose. */
const endSandboxes = async (directory: string) => {
  const sandboxes = join(directory, "local", "sandboxes")
  for (const name of await readdir(sandboxes).catch(() => [])) {
    const init = await readFile(join(sandboxes, name, "init"), "utf8").catch(() => "0")
    const pid = Number.parseInt(init, 10)
    try {
      if (pid > 1) process.kill(pid, "SIGKILL")
    } catch (cause) {
      // It has already ended.
      if ((cause as NodeJS.ErrnoException).code !== "ESRCH") throw cause
    }
  }
}

/** An empty data directory. Closing the scope ends the sandboxes in it. */
export const dataDirectory = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "castellan-server-"))),
  (directory) =>
    Effect.promise(async () => {
      await endSandboxes(directory)
      // Programs of a sandbox may still write for a moment.
      await rm(directory, { recursive: true, force: true, maxRetries: 10 })
    })
)

/** A data directory with a migrated database, as a server leaves it before its first request. */
export const usedDirectory = Effect.tap(dataDirectory, (directory) =>
  Effect.promise(() => cp(inject("migratedDirectory"), join(directory, "postgres"), { recursive: true }))
)

/**
 * Settings of a server with an empty data directory and a migrated Postgres database. It starts in a third of the time
 * of one with an embedded database.
 */
export const onPostgres = Effect.gen(function* () {
  return { CASTELLAN_DATA_DIR: yield* dataDirectory, DATABASE_URL: yield* migratedUrl }
})

/** A server process and its output so far. */
export interface Running {
  readonly child: ChildProcess
  readonly said: () => string
}

interface Host {
  /** Limit of open descriptors; that of this process if left out. */
  readonly descriptors?: number
  /** Destination of the output; pipes that the test reads if left out. */
  readonly stdio?: StdioOptions
}

/** Starts a server that may fail to start. Its sandboxes have no network, which is cheaper, unless `env` sets one. */
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

/** Waits until the server prints its address; fails with its output if it ends before that. */
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

/** Ends it as a crash would, with SIGKILL. */
export const killed = ({ child }: Running) =>
  Effect.promise(async () => {
    child.kill("SIGKILL")
    await once(child, "exit")
  })
