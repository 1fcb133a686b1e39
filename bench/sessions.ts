/** Measures opening sessions: many at once on the control plane alone, and one by one with real sandboxes and repositories. */
import type { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { Repo, RepoName } from "@castellan/domain/repo/Repo.ts"
import { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import * as RepoUrl from "@castellan/domain/repo/RepoUrl.ts"
import { Command } from "@castellan/domain/sandbox/Command.ts"
import { Sandboxes } from "@castellan/domain/sandbox/Sandboxes.ts"
import type { SessionId } from "@castellan/domain/session/Session.ts"
import { Sessions } from "@castellan/domain/session/Sessions.ts"
import { Duration, Effect, Layer, Logger, Option } from "effect"
import { join } from "node:path"
import { dataDirectory, onTheControlPlane, onThisMachine, somebody, succeeds, timed } from "./castellan.ts"
import { columns, heading, row, type Size } from "./figures.ts"

export const about =
  "Opening many sessions at once on the control plane alone; first open and wake on the local provider."

const sizes = {
  whole: { rounds: 15, atOnce: 200, files: 20_000 },
  quick: { rounds: 2, atOnce: 10, files: 200 }
}

/** Creates an empty repository and returns its URL. */
const repository = Effect.gen(function* () {
  const host = yield* RepoHost
  const repo = new Repo({ owner: host.supports.owner, name: RepoName.make("bench") })
  yield* host.ensure(repo)
  return RepoUrl.urlOf(host.supports.url, repo)
})

const created = (scope: AccountScope) =>
  Effect.flatMap(Sessions, (sessions) =>
    sessions.create(scope, { title: null, repo: null, organization: null, nonce: Option.none() })
  )

const many = Effect.fnUntraced(function* (atOnce: number) {
  const sessions = yield* Sessions
  const scope = yield* somebody
  const repo = yield* repository
  const all = yield* Effect.all(Array.from({ length: atOnce }, () => created(scope)))
  const times: Array<number> = []
  const again: Array<number> = []
  const open = (into: Array<number>) => (session: { readonly id: SessionId }) =>
    timed(into, sessions.open(scope, session.id, repo))
  yield* Effect.forEach(all, open(times), { concurrency: "unbounded" })
  yield* Effect.forEach(all, open(again), { concurrency: "unbounded" })
  row(`${atOnce} at once, memory provider: first open`, times)
  row(`${atOnce} at once, memory provider: open again`, again)
})

const script = (files: number) => `
  const { mkdirSync, writeFileSync } = require("node:fs")
  const content = Buffer.alloc(1000, 7)
  for (let i = 0; i < ${files}; i++) {
    const directory = "tree/" + (i % 200)
    mkdirSync(directory, { recursive: true })
    writeFileSync(directory + "/" + i, content)
  }`

const resumed = Effect.fnUntraced(function* (rounds: number, files: number) {
  const sessions = yield* Sessions
  const sandboxes = yield* Sandboxes
  const scope = yield* somebody
  const repo = yield* repository
  const { id } = yield* created(scope)
  const { sandbox } = yield* sessions.open(scope, id, repo)
  const fill = new Command({ command: "node", args: ["-e", script(files)], cwd: null, env: {} })
  yield* succeeds(sandboxes.run(sandbox.name, fill, Duration.minutes(5)))
  const times: Array<number> = []
  const running: Array<number> = []
  for (let i = 0; i < rounds; i++) {
    yield* sessions.hibernate(scope, id)
    yield* timed(times, sessions.open(scope, id, repo))
    yield* timed(running, sessions.open(scope, id, repo))
  }
  row(`local, ${files.toLocaleString("en")} files: wake`, times)
  row(`local, ${files.toLocaleString("en")} files: open while it runs`, running)
})

const cold = Effect.fnUntraced(function* (rounds: number) {
  const sessions = yield* Sessions
  const scope = yield* somebody
  const repo = yield* repository
  const times: Array<number> = []
  for (let i = 0; i < rounds; i++) {
    const { id } = yield* created(scope)
    yield* timed(times, sessions.open(scope, id, repo))
    yield* sessions.hibernate(scope, id)
  }
  row("local, empty repository: first open", times)
})

export const run = Effect.fnUntraced(function* (size: Size) {
  heading("Sessions (open returns when the sandbox runs with its repository)")
  const { atOnce, files, rounds } = sizes[size]
  const directory = yield* dataDirectory
  columns()
  const quiet = Logger.layer([])
  yield* Effect.provide(many(atOnce), Layer.mergeAll(onTheControlPlane(join(directory, "plane")), quiet))
  yield* Effect.gen(function* () {
    yield* cold(rounds)
    yield* resumed(rounds, 10)
    yield* resumed(rounds, files)
  }).pipe(Effect.provide(Layer.mergeAll(onThisMachine(directory), quiet)))
})
