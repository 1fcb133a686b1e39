/** A server's own process with all its places, and a client that remembers, for tests of setups. */
import { Effect, Schedule } from "effect"
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { dataDirectory } from "../server/serverProcess.ts"

export type Json = any

/** What may be gone when it is looked at. */
export const ifThere = <A>(read: () => ReadonlyArray<A>): ReadonlyArray<A> => {
  try {
    return read()
  } catch {
    return []
  }
}

export const entries = (...path: ReadonlyArray<string>) => ifThere(() => readdirSync(join(...path)))

/** All files below a directory, as they are on the disk. */
export const filesBelow = (directory: string): ReadonlyArray<string> =>
  ifThere(() => readdirSync(directory, { withFileTypes: true })).flatMap((entry) => {
    const path = join(directory, entry.name)
    if (entry.isDirectory()) return filesBelow(path)
    return entry.isFile() ? [path] : []
  })

/** A client of a server, which remembers all that it was answered. */
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

/** Looks again and again until there is something. */
export const until = <A, E, R>(look: Effect.Effect<A | undefined, E, R>) =>
  look.pipe(
    Effect.flatMap((found) => (found === undefined ? Effect.fail("not yet") : Effect.succeed(found))),
    Effect.retry({ schedule: Schedule.spaced("10 millis"), times: 6000 })
  )

/** The run once it has ended. */
export const ended = ({ run }: Client, id: string, of = "") =>
  until(Effect.map(run(id, of), (one) => (["COMPLETED", "FAILED", "CANCELED"].includes(one.status) ? one : undefined)))

/** A directory for a server's data, beside one for what it writes for a moment. */
export const places = Effect.map(dataDirectory, (data) => {
  const temporary = join(data, "temporary")
  mkdirSync(temporary, { recursive: true })
  const local = (...path: ReadonlyArray<string>) => join(data, "local", ...path)
  return {
    data,
    temporary,
    environment: { CASTELLAN_DATA_DIR: data, TMPDIR: temporary, CASTELLAN_ADMIN_KEY: "key-of-the-admin-of-a-test" },
    sandboxes: () => entries(local("sandboxes")),
    /** Those that were written whole. */
    snapshots: () => entries(local("snapshots")).filter((name) => name.endsWith(".json")),
    repositories: () => entries(data, "repositories", "castellan"),
    hasMain: (name: string) => existsSync(join(data, "repositories", "castellan", name, "refs/heads/main")),
    workspaces: () => entries(temporary).filter((name) => name.startsWith("castellan-git-")),
    /** The sandboxes whose first process lives. */
    awake: () =>
      entries(local("sandboxes")).filter((name) =>
        ifThere(() => [readFileSync(local("sandboxes", name, "init"), "utf8")]).some((line) =>
          existsSync(`/proc/${Number.parseInt(line, 10)}`)
        )
      )
  }
})

export const key = "key-of-the-admin-of-a-test"
