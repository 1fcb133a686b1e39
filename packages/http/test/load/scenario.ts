/**
 * Three servers over one Postgres under an open-loop load with Poisson arrivals. One server is killed every few
 * seconds, and the database is restarted once. Afterwards everything that was acknowledged to a client must exist
 * exactly once, and nothing else.
 */
import { Effect, Schedule, type Scope } from "effect"
import { mkdirSync, readdirSync } from "node:fs"
import { join } from "node:path"
import * as EmbeddedPostgres from "../../../adapters/test/embeddedPostgres.ts"
import { dataDirectory, killed, listening } from "../server/serverProcess.ts"
import { Client, sleep } from "./Client.ts"

const apiKey = "key-of-the-admin-of-a-test"

export interface Options {
  readonly seconds: number
  /** Mean arrivals per second. */
  readonly rate: number
  /** Mean milliseconds between two kills. */
  readonly killEvery: number
}

/** A sandbox that was requested under one idempotency key. */
interface Made {
  readonly key: string
  id: string | undefined
  /** The commands that were acknowledged for it. */
  readonly lines: Array<string>
  /** Whether its deletion was requested. */
  isDeleted: boolean
}

/** Milliseconds until the next arrival of a Poisson process with this rate per second. */
const gap = (rate: number) => (-Math.log(1 - Math.random()) / rate) * 1000

const oneOf = <A>(all: ReadonlyArray<A>): A | undefined => all[Math.floor(Math.random() * all.length)]

export const scenario = Effect.fnUntraced(function* (
  options: Options
): Effect.fn.Return<
  { readonly client: Client; readonly wrong: ReadonlyArray<string>; readonly notes: ReadonlyArray<string> },
  unknown,
  Scope.Scope
> {
  const data = yield* dataDirectory
  mkdirSync(join(data, "temporary"))
  const database = yield* Effect.acquireRelease(
    Effect.promise(() => EmbeddedPostgres.start()),
    ({ stop }) => Effect.promise(stop)
  )
  const begin = listening({
    CASTELLAN_DATA_DIR: data,
    DATABASE_URL: `${database.url}/postgres`,
    CASTELLAN_ADMIN_KEY: apiKey,
    CASTELLAN_REQUESTS_PER_MINUTE: "1000000",
    CASTELLAN_CREATES_PER_MINUTE: "1000000",
    TMPDIR: join(data, "temporary")
  }).pipe(
    // A process supervisor does the same: it restarts a server that ended because it found no database. Such a server may
    // have logged warnings before.
    Effect.retry({
      schedule: Schedule.spaced("1 second"),
      times: 30,
      while: (output) => /^Castellan can't start/m.test(output)
    })
  )
  const servers = yield* Effect.all([begin, begin, begin], { concurrency: 3 })
  const client = new Client(() => servers.map(({ url }) => url), apiKey)
  const sandboxes: Array<Made> = []
  const sessions: Array<string> = []
  const wrong: Array<string> = []
  let kills = 0
  let names = 0

  const create = async (made: Made = { key: `create ${names++}`, id: undefined, lines: [], isDeleted: false }) => {
    if (!sandboxes.includes(made)) sandboxes.push(made)
    const line = `first of ${made.key}`
    const body = { command: "sh", args: ["-c", `echo '${line}' >> ~/notes`] }
    const json = await client.ask({ what: "create", method: "POST", path: "/api/sandboxes", body, key: made.key })
    made.id = json?.sandboxes[0].sandboxId ?? made.id
  }

  const run = async () => {
    const made = oneOf(sandboxes.filter(({ id, isDeleted }) => id !== undefined && !isDeleted))
    if (made === undefined) return create()
    const line = `line ${names++}`
    const body = { command: "sh", args: ["-c", `echo '${line}' >> ~/notes`], wait: true }
    const path = `/api/sandboxes/${made.id}/commands`
    const json = await client.ask({ what: "run", method: "POST", path, body, key: line })
    if (json?.run?.status === "COMPLETED" && json.run.output.exitCode === 0) made.lines.push(line)
  }

  const list = () => client.ask({ what: "list", method: "GET", path: "/api/sandboxes?limit=20" })

  const remove = async () => {
    const made = oneOf(sandboxes.filter(({ id, isDeleted }) => id !== undefined && !isDeleted))
    if (made === undefined) return
    made.isDeleted = true
    await client.ask({ what: "delete", method: "DELETE", path: `/api/sandboxes/${made.id}` })
  }

  const open = async () => {
    if (sessions.length < 5) {
      const key = `session ${names++}`
      const json = await client.ask({ what: "session", method: "POST", path: "/api/sessions", body: {}, key })
      if (json !== undefined) sessions.push(json.session.id)
      return
    }
    const of = `sessionId=${oneOf(sessions)!}`
    await client.ask({ what: "status", method: "GET", path: `/api/sandbox/status?${of}` })
  }

  const arrive = (): Promise<unknown> => {
    const chance = Math.random()
    if (chance < 0.4) return list()
    if (chance < 0.65) return run()
    if (chance < 0.85) return create()
    return chance < 0.95 ? open() : remove()
  }

  const until = Date.now() + options.seconds * 1000
  const isBusy = () => Date.now() < until

  const load = Effect.promise(async () => {
    const all: Array<Promise<unknown>> = []
    while (isBusy()) {
      all.push(arrive())
      await sleep(gap(options.rate))
    }
    await Promise.all(all)
  })

  const fire = Effect.gen(function* () {
    while (isBusy()) {
      yield* Effect.sleep(gap(1000 / options.killEvery))
      const index = Math.floor(Math.random() * servers.length)
      yield* killed(servers[index]!)
      kills++
      servers[index] = yield* begin
    }
  })

  const outage = Effect.gen(function* () {
    yield* Effect.sleep(options.seconds * 500)
    yield* Effect.promise(database.pause)
    yield* Effect.sleep("2 seconds")
    yield* Effect.promise(database.resume)
  })

  yield* Effect.all([load, fire, outage], { concurrency: 3 })

  yield* Effect.promise(async () => {
    // A client without a response repeats its request and must get the same sandbox, or a new one.
    for (const made of sandboxes) if (made.id === undefined) await create(made)
    const rows: Array<{ sandboxId: string; sandboxStatus: string }> = []
    for (let cursor: string | undefined = ""; cursor !== undefined;) {
      const json: any = await client.ask({ what: "check", method: "GET", path: `/api/sandboxes?limit=100${cursor}` })
      rows.push(...json.sandboxes)
      cursor = json.next_cursor === undefined ? undefined : `&cursor=${json.next_cursor}`
    }
    const known = new Set(rows.map(({ sandboxId }) => sandboxId))
    const ids = sandboxes.map(({ id }) => id)
    for (const made of sandboxes) if (!known.has(made.id!)) wrong.push(`${made.key} is lost: ${made.id}`)
    if (new Set(ids).size < ids.length) wrong.push("two keys have one sandbox")
    if (rows.length !== sandboxes.length)
      wrong.push(`${sandboxes.length} sandboxes were asked for, there are ${rows.length}`)
    for (const name of readdirSync(join(data, "local", "sandboxes"))) {
      if (name.startsWith("sbx_") && !known.has(name)) wrong.push(`${name} is nobody's`)
    }
    for (const { id, isDeleted, key, lines } of sandboxes) {
      if (isDeleted) continue
      const body = { command: "cat", args: ["notes"], wait: true }
      const asked = { what: "check", method: "POST", path: `/api/sandboxes/${id}/commands`, body, key: `check ${key}` }
      const json = await client.ask(asked)
      const found = String(json?.run?.output?.stdout ?? "").split("\n")
      for (const line of [`first of ${key}`, ...lines]) {
        const times = found.filter((one) => one === line).length
        if (times !== 1) wrong.push(`${id}: "${line}" is there ${times} times`)
      }
    }
  })
  for (const server of servers) if (server.child.exitCode !== null) wrong.push(`a server ended: ${server.said()}`)
  const notes = [
    `${sandboxes.length} sandboxes, ${sessions.length} sessions, ${kills} servers killed, the database restarted once`
  ]
  return { client, wrong: [...new Set(wrong)], notes }
})
