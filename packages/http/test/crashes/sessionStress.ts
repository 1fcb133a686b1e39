/** Two servers over one database and one data directory, killed repeatedly while clients work in sessions. */
import { Effect, Schedule, type Scope } from "effect"
import { execFileSync } from "node:child_process"
import { mkdirSync, readdirSync } from "node:fs"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import * as EmbeddedPostgres from "../../../adapters/test/embeddedPostgres.ts"
import { allInits, runningTwice } from "../../../adapters/test/local/process/providerProcesses.ts"
import { dataDirectory, killed, listening } from "../server/serverProcess.ts"

type Json = any

const key = "key-of-the-admin-of-a-test"

/** Concurrent clients, and the sessions that they work in. */
const clients = 8
const sessionsAtMost = 16

/** Milliseconds that a client waits for a response. Longer than the lease of a killed server. */
const patience = 8000

/** The statuses that a client may get while servers restart. */
const answers = [200, 201, 202, 409, 502, 503]

const oneOf = <A>(all: ReadonlyArray<A>): A => all[Math.floor(Math.random() * all.length)]!

interface Known {
  readonly id: string
  /** The writes that were acknowledged to the client, in order. */
  readonly written: Array<string>
  /** The newest version that a client has seen. */
  version: number
}

const repository = (data: string) => {
  const path = join(data, "repositories", "castellan", "site.git")
  mkdirSync(path, { recursive: true })
  const git = (...args: ReadonlyArray<string>) =>
    execFileSync("git", ["-C", path, ...args], { encoding: "utf8", env: { PATH: process.env.PATH ?? "" } }).trim()
  git("init", "--bare", "--quiet", "--initial-branch=main")
  const tree = git("hash-object", "-t", "tree", "-w", "/dev/null")
  const commit = git("-c", "user.name=a", "-c", "user.email=a@example.com", "commit-tree", "-m", "first", tree)
  git("update-ref", "refs/heads/main", commit)
  return `${pathToFileURL(join(data, "repositories")).href}/castellan/site`
}

type Server = Effect.Success<ReturnType<typeof listening>>

/** Works in sessions for the given seconds, then lets them settle. Returns the counts and every violation. */
export const sessionStress = Effect.fnUntraced(function* (
  seconds: number
): Effect.fn.Return<
  { readonly done: Record<string, number>; readonly wrong: ReadonlyArray<string> },
  unknown,
  Scope.Scope
> {
  const data = yield* dataDirectory
  const temporary = join(data, "temporary")
  mkdirSync(temporary)
  const { url } = yield* Effect.acquireRelease(
    Effect.promise(() => EmbeddedPostgres.start()),
    ({ stop }) => Effect.promise(stop)
  )
  const environment = {
    CASTELLAN_DATA_DIR: data,
    DATABASE_URL: `${url}/postgres`,
    CASTELLAN_ADMIN_KEY: key,
    CASTELLAN_SESSION_IDLE_SECONDS: "10",
    CASTELLAN_REQUESTS_PER_MINUTE: "1000000",
    CASTELLAN_CREATES_PER_MINUTE: "1000000",
    TMPDIR: temporary
  }
  const repoUrl = repository(data)
  const begin = listening(environment)
  const servers: Array<Server> = yield* Effect.all([begin, begin], { concurrency: 2 })

  const wrong: Array<string> = []
  const done: Record<string, number> = {}
  const count = (what: string) => (done[what] = (done[what] ?? 0) + 1)

  /** The response, or undefined if the connection broke or timed out. */
  const ask = (method: string, path: string, body?: unknown, within = patience) =>
    Effect.promise(async (): Promise<{ status: number; json: Json } | undefined> => {
      const server = oneOf(servers)
      try {
        const headers = { "x-api-key": key, "content-type": "application/json" }
        const response = await fetch(`${server.url}${path}`, {
          method,
          headers,
          signal: AbortSignal.timeout(within),
          ...(body === undefined ? {} : { body: JSON.stringify(body) })
        })
        const text = await response.text()
        count(`${response.status}`)
        if (!answers.includes(response.status)) wrong.push(`${method} ${path}: ${response.status} ${text}`)
        return { status: response.status, json: JSON.parse(text) }
      } catch {
        count("broken")
        return undefined
      }
    })

  const sessions: Array<Known> = []

  const open = ({ id }: Known, within?: number) => ask("POST", "/api/sandbox", { repoUrl, sessionId: id }, within)

  /** The program's output if it completed. */
  const said = Effect.fnUntraced(function* ({ id }: Known, script: string, within?: number) {
    const body = { command: "sh", args: ["-c", script], wait: true }
    const answer = yield* ask("POST", `/api/sessions/${id}/commands`, body, within)
    if (answer?.status !== 200) return undefined
    const { output, status } = answer.json.run
    return status === "COMPLETED" && output.exitCode === 0 ? String(output.stdout) : undefined
  })

  let lines = 0
  const write = Effect.fnUntraced(function* (session: Known) {
    const line = `line ${lines++}`
    if ((yield* said(session, `echo '${line}' >> ~/notes`)) === undefined) return
    count("written")
    session.written.push(line)
  })

  const check = Effect.fnUntraced(function* (session: Known, within?: number) {
    const told = [...session.written]
    const notes = yield* said(session, "touch ~/notes && cat ~/notes", within)
    if (notes === undefined) return false
    count("read")
    const found = notes.split("\n").filter((line) => line !== "")
    const missing = told.filter((line) => !found.includes(line))
    if (missing.length > 0) wrong.push(`${session.id} has lost ${missing.join(", ")}`)
    if (new Set(found).size < found.length) wrong.push(`${session.id} has written twice: ${found.join(", ")}`)
    return true
  })

  const looked = Effect.fnUntraced(function* (session: Known) {
    const before = session.version
    const answer = yield* ask("GET", `/api/sandbox/status?sessionId=${session.id}`)
    if (answer?.status !== 200) return undefined
    const { lifecycle, lifecycleVersion } = answer.json
    if (lifecycleVersion < before) wrong.push(`${session.id} went from ${before} back to ${lifecycleVersion}`)
    session.version = Math.max(session.version, lifecycleVersion)
    return lifecycle.state as string | null
  })

  const worked = Effect.gen(function* () {
    if (sessions.length < 3 || (sessions.length < sessionsAtMost && Math.random() < 0.1)) {
      const made = yield* ask("POST", "/api/sessions", { title: "under fire", repoUrl })
      if (made?.status === 201) sessions.push({ id: made.json.session.id, written: [], version: 0 })
      return
    }
    const session = oneOf(sessions)
    yield* looked(session)
    const { id } = session
    const of = `sessionId=${id}`
    if ((yield* open(session))?.status === 200) {
      count("opened")
      yield* write(session)
      yield* check(session)
      yield* write(session)
    }
    yield* looked(session)
    const last = Math.random()
    if (last < 0.4) yield* ask("DELETE", `/api/sandbox?${of}`)
    else if (last < 0.5) yield* ask("POST", "/api/sandbox/extend", { sessionId: id })
    else if (last < 0.6) yield* ask("GET", `/api/sandbox/reconnect?${of}`)
    else if (last < 0.65) {
      yield* ask("PATCH", `/api/sessions/${id}`, { status: "archived" })
      yield* ask("PATCH", `/api/sessions/${id}`, { status: "running" })
    }
  })

  const counted = Effect.sync(() => {
    for (const name of runningTwice()) if (name.startsWith("ses_")) wrong.push(`${name} runs twice at once`)
  }).pipe(Effect.andThen(Effect.sleep("200 millis")))

  const fired = Effect.gen(function* () {
    yield* Effect.sleep(500 + Math.random() * 4000)
    const index = Math.floor(Math.random() * 2)
    yield* killed(servers[index]!)
    count("killed")
    yield* Effect.sleep(Math.random() * 1000)
    servers[index] = yield* begin
  })

  const until = Date.now() + seconds * 1000
  const whileBusy = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    Effect.repeat(effect, { while: () => Date.now() < until })
  yield* Effect.all(
    [...Array.from({ length: clients }, () => whileBusy(worked)), whileBusy(counted), whileBusy(fired)],
    { concurrency: "unbounded" }
  )

  /** Waits until no violation remains, for longer than the lease of a killed server. */
  const settled = <E>(look: Effect.Effect<ReadonlyArray<string>, E>) =>
    look.pipe(
      Effect.flatMap((left) => (left.length === 0 ? Effect.void : Effect.fail(left))),
      Effect.retry({ schedule: Schedule.spaced("1 second"), times: 120 }),
      Effect.catch((left) => Effect.sync(() => wrong.push(`after a while: ${String(left)}`)))
    )

  // An unused session is hibernated from any state. An archived one that was not restored stays archived.
  const resting = ["hibernated", "archived", "failed", null]
  yield* settled(
    Effect.map(Effect.forEach(sessions, looked), (states) =>
      states.flatMap((state, index) =>
        state !== undefined && resting.includes(state) ? [] : [`${sessions[index]!.id} is ${state}`]
      )
    )
  )

  const names = Effect.gen(function* () {
    const all: Array<string> = []
    let cursor = ""
    do {
      const page = yield* ask("GET", `/api/sessions?limit=100${cursor}`)
      all.push(...page!.json.sessions.map(({ sandboxId }: Json) => sandboxId))
      cursor = page!.json.next_cursor === undefined ? "" : `&cursor=${page!.json.next_cursor}`
    } while (cursor !== "")
    return all
  })
  yield* settled(
    Effect.map(names, (known) => {
      const sandboxes = readdirSync(join(data, "local", "sandboxes"))
      return [
        // A repository has at most one base image builder, whose row outlives its server for a while.
        ...sandboxes.filter((name) => !known.includes(name) && !name.startsWith("img_")),
        ...sandboxes.filter((name) => name.startsWith("img_")).slice(1),
        ...[...allInits().keys()].filter((name) => known.includes(name)).map((name) => `${name} runs`)
      ]
    })
  )

  for (const session of sessions) {
    yield* ask("PATCH", `/api/sessions/${session.id}`, { status: "running" })
    const opened = yield* open(session, 60_000)
    if (opened?.status !== 200) wrong.push(`${session.id} can't be opened: ${JSON.stringify(opened)}`)
    else if (!(yield* check(session, 60_000))) wrong.push(`${session.id} can't be read`)
    yield* ask("DELETE", `/api/sandbox?sessionId=${session.id}`, undefined, 60_000)
  }
  for (const server of servers) {
    if (server.child.exitCode !== null) wrong.push(`a server ended by itself: ${server.said()}`)
  }
  return { done, wrong: [...new Set(wrong)] }
})
