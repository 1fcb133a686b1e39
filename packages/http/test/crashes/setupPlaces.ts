/** A server process with all its directories, and a client that records responses, for tests of setups. */
import { Effect, Schedule } from "effect"
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { dataDirectory } from "../server/serverProcess.ts"

export type Json = any

/** Reads a list; empty if the file or directory is missing. */
export const ifThere = <A>(read: () => ReadonlyArray<A>): ReadonlyArray<A> => {
  try {
    return read()
  } catch {
    return []
  }
}

export const entries = (...path: ReadonlyArray<string>) => ifThere(() => readdirSync(join(...path)))

/** All files below a directory. */
export const filesBelow = (directory: string): ReadonlyArray<string> =>
  ifThere(() => readdirSync(directory, { withFileTypes: true })).flatMap((entry) => {
    const path = join(directory, entry.name)
    if (entry.isDirectory()) return filesBelow(path)
    return entry.isFile() ? [path] : []
  })

/** A client of a server that records all responses. */
export const clientOf = ({ key, url }: { readonly url: string; readonly key: string }, heard: Array<string> = []) => {
  const ask = (method: string, path: string, body?: unknown) =>
    Effect.promise(async (): Promise<Json> => {
      const headers = { "x-api-key": key, "content-type": "application/json" }
      const init: RequestInit = { method, headers, ...(body === undefined ? {} : { body: JSON.stringify(body) }) }
      const response = await fetch(`${url}${path}`, init)
      const text = await response.text()
      heard.push(text, JSON.stringify([...response.headers]))
      return JSON.parse(text)
    })
  const run = (id: string, of = "") =>
    Effect.map(ask("GET", `/api/tasks/runs?runId=${id}${of}`), ({ runs }): Json => runs[0])
  return { ask, run }
}

export type Client = ReturnType<typeof clientOf>

/** Polls until the effect returns a value. */
export const until = <A, E, R>(look: Effect.Effect<A | undefined, E, R>) =>
  look.pipe(
    Effect.flatMap((found) => (found === undefined ? Effect.fail("not yet") : Effect.succeed(found))),
    Effect.retry({ schedule: Schedule.spaced("10 millis"), times: 6000 })
  )

/** Waits for the end of a run. */
export const ended = ({ run }: Client, id: string, of = "") =>
  until(Effect.map(run(id, of), (one) => (["COMPLETED", "FAILED", "CANCELED"].includes(one.status) ? one : undefined)))

/** Creates a directory for a server's data, next to one for its temporary files. */
export const places = Effect.map(dataDirectory, (data) => {
  const temporary = join(data, "temporary")
  mkdirSync(temporary, { recursive: true })
  const local = (...path: ReadonlyArray<string>) => join(data, "local", ...path)
  return {
    data,
    temporary,
    environment: { CASTELLAN_DATA_DIR: data, TMPDIR: temporary, CASTELLAN_ADMIN_KEY: "key-of-the-admin-of-a-test" },
    sandboxes: () => entries(local("sandboxes")),
    /** Only those that were written completely. */
    snapshots: () => entries(local("snapshots")).filter((name) => name.endsWith(".json")),
    repositories: () => entries(data, "repositories", "castellan"),
    hasMain: (name: string) => existsSync(join(data, "repositories", "castellan", name, "refs/heads/main")),
    workspaces: () => entries(temporary).filter((name) => name.startsWith("castellan-git-")),
    /** The sandboxes whose init process is alive. */
    awake: () =>
      entries(local("sandboxes")).filter((name) =>
        ifThere(() => [readFileSync(local("sandboxes", name, "init"), "utf8")]).some((line) =>
          existsSync(`/proc/${Number.parseInt(line, 10)}`)
        )
      )
  }
})

export const key = "key-of-the-admin-of-a-test"
