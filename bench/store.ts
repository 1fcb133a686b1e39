/** Measures the statements of the stores in a large database on Postgres: `npm run bench:store`. */
import * as Db from "@castellan/adapters/postgres/Db.ts"
import * as Stores from "@castellan/adapters/postgres/stores.ts"
import { AccountSandbox } from "@castellan/domain/account/AccountSandbox.ts"
import { AccountStore } from "@castellan/domain/account/AccountStore.ts"
import { EnvironmentStore } from "@castellan/domain/account/EnvironmentStore.ts"
import { KeyDigest } from "@castellan/domain/identity/ApiKey.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { CurrentActor } from "@castellan/domain/identity/CurrentActor.ts"
import { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { PlatformAdmin } from "@castellan/domain/identity/PlatformAdmin.ts"
import { type Cursor, cursorAfter } from "@castellan/domain/Page.ts"
import { EventStore } from "@castellan/domain/sandbox/EventStore.ts"
import { EventCursor } from "@castellan/domain/sandbox/SandboxEvent.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SessionStore } from "@castellan/domain/session/SessionStore.ts"
import * as given from "@castellan/testkit/given.ts"
import { DateTime, Effect, Layer, Redacted } from "effect"
import { SecureRandom } from "effect/crypto"
import { start } from "../packages/adapters/test/embeddedPostgres.ts"
import * as Arguments from "../scripts/arguments.ts"
import { heading, printFacts, quantiles } from "./figures.ts"
import * as filled from "./filled.ts"
import * as plans from "./plans.ts"

const { values: flags } = Arguments.read({
  name: "npm run bench:store",
  about:
    "Fills a new Postgres server with sandboxes, sessions and events of a tenth as many accounts, one of which\n" +
    "owns a tenth of the rows. Prints the duration of each store operation and a summary of its query plan.",
  options: {
    quick: {
      type: "switch",
      about: "Insert 10,000 rows and measure only a few times, to show that the benchmark works."
    },
    rows: {
      type: "integer",
      about: "Number of sandboxes, and of sessions and events.",
      min: 10_000,
      max: 100_000_000,
      multipleOf: 1000
    },
    plans: { type: "switch", about: "Also print the full query plans." }
  }
})
const rows = flags.rows ?? (flags.quick ? 10_000 : 1_000_000)
const runs = flags.quick ? 5 : 200
const pageSize = 100

const admin = Layer.effect(CurrentActor, given.account({ platformAdmin: true }))

/** Prefix of the names of sandboxes that the benchmark adds. */
const added = "sbx_added"

const seen: Array<Db.Statement> = []

/** Replaces the name of an added sandbox, so that the statement can run again. */
const renewed = (parameter: unknown) =>
  typeof parameter === "string" && parameter.startsWith(added) ? `${added}${SecureRandom.uuidV4Unsafe()}` : parameter

const again = ({ parameters, sql }: Db.Statement): Db.Statement => ({ sql, parameters: parameters.map(renewed) })

const measure = Effect.fnUntraced(function* () {
  const { engine } = yield* Db.Db
  if (engine._tag !== "Postgres") return
  const { pool } = engine
  const database = yield* Effect.acquireRelease(
    Effect.promise(() => pool.connect()),
    (client) => Effect.sync(() => client.release())
  )
  const ask = <A>(run: () => Promise<A>) => Effect.promise(run)

  heading(`${rows} sandboxes, sessions and events of ${rows / 10} accounts, one of which owns a tenth of the rows`)
  yield* ask(() => filled.fill(database, rows, (line) => console.log(line)))

  const accounts = yield* AccountStore
  const environments = yield* EnvironmentStore
  const identities = yield* IdentityStore
  const sessions = yield* SessionStore
  const events = yield* EventStore

  const scopeOf = (number: number) =>
    Effect.map(
      ask(() => filled.accountOf(database, number)),
      (account) => AccountScope.ofOwner({ account })
    )
  const [big, small, member] = [yield* scopeOf(0), yield* scopeOf(2), yield* scopeOf(rows / 1000 + 60)]
  const organization = yield* scopeOf(1)
  const proof = yield* Effect.provide(PlatformAdmin.proof, admin)
  const now = yield* DateTime.now
  const ago = (days: number) => DateTime.subtract(now, { days })

  /** The cursor at a fraction of the account's rows. */
  const cursorAt = (scope: AccountScope, part: number, limit: number) =>
    ask(async () => {
      const { rows } = await database.query<{ at: Date; id: string; whole: number }>(
        `select created_at as at, name as id, (count(*) over ())::int as whole
         from account_sandboxes where account_id = $1 order by created_at desc, name desc`,
        [scope.account]
      )
      const { at, id } = rows[Math.floor(part * (rows.length - limit)) - 1]!
      return cursorAfter({ at: at.getTime(), id })
    })
  const list = (scope: AccountScope, limit: number, cursor: Cursor | null) => accounts.list(scope, { limit, cursor })
  const add = (scope: AccountScope) => {
    const rest = { status: "pending", createdAt: now, expiresAt: null, reason: null, removedAt: null } as const
    const name = SandboxName.make(`${added}${SecureRandom.uuidV4Unsafe()}`)
    return accounts.add(scope, new AccountSandbox({ ...rest, name, account: scope.account }), rows)
  }
  const name = yield* ask(() => filled.sandboxOf(database, rows - 1000))
  const session = yield* ask(() => filled.sessionOf(database, rows - 1000))
  const middle = EventCursor.make(String(rows / 2))
  const digest = KeyDigest.make(yield* ask(() => filled.digestOf(database, 7)))
  const few = 3
  const [smallMiddle, smallLast] = [yield* cursorAt(small, 0.5, few), yield* cursorAt(small, 1, few)]
  const [bigMiddle, bigLast] = [yield* cursorAt(big, 0.5, pageSize), yield* cursorAt(big, 1, pageSize)]

  const operations: Record<string, Effect.Effect<unknown, unknown>> = {
    "list, small account, first page": list(small, few, null),
    "list, small account, middle page": list(small, few, smallMiddle),
    "list, small account, last page": list(small, few, smallLast),
    "list, big account, first page": list(big, pageSize, null),
    "list, big account, middle page": list(big, pageSize, bigMiddle),
    "list, big account, last page": list(big, pageSize, bigLast),
    "get a sandbox": accounts.get(big, name),
    "find a key": identities.findKey(digest),
    "membership check": identities.relationshipBetween(member.account, organization.account),
    "find an environment": environments.get(small),
    "find a snapshot": environments.findSnapshot(big, "setup0" as never),
    "list unfinished": accounts.listUnfinished(now, pageSize),
    "list expired": accounts.listExpired(ago(7), pageSize),
    "list kept, big account": accounts.listKept(big, pageSize),
    "list unneeded snapshots": environments.listUnneeded(now, ago(1), pageSize),
    "totals, first page": accounts.totals(proof, { limit: pageSize, cursor: null }),
    "list sessions, big account": sessions.list(big, { limit: pageSize, cursor: null }),
    "get a session": sessions.get(big, session),
    "claim due sessions": sessions.claimDue(DateTime.add(now, { minutes: 2 }), now, pageSize),
    "read events, big account, middle": events.read(big, middle, pageSize),
    "latest event, big account": events.latest(big),
    "record observed state": accounts.recordObserved(big, [{ name, status: "stopped", expiresAt: null, reason: null }]),
    "live count and add, small account": Effect.suspend(() => add(small)),
    "live count and add, big account": Effect.suspend(() => add(big))
  }

  heading("Milliseconds in the database (planning and execution), and of the store's call")
  const columns = ["db p50", "db p95", "call p50", "call p95", "statements", "buffers"]
  console.log(`${"".padEnd(36)}${columns.map((column) => column.padStart(11)).join("")}`)
  for (const [label, operation] of Object.entries(operations)) {
    const calls: Array<number> = []
    let statements: ReadonlyArray<Db.Statement> = []
    for (let i = 0; i < runs; i++) {
      seen.length = 0
      const began = performance.now()
      yield* operation
      calls.push(performance.now() - began)
      statements = [...seen]
    }
    const times = Array<number>(runs).fill(0)
    const answers: Array<Awaited<ReturnType<typeof plans.ask>>> = []
    for (const statement of statements) {
      for (let i = 0; i < runs; i++) {
        const answer = yield* ask(() => plans.ask(database, again(statement)))
        times[i]! += answer.time
        if (i === runs - 1) answers.push(answer)
      }
    }
    const figures = [...quantiles(times), ...quantiles(calls)].map((value) => value.toFixed(2))
    const buffers = answers.reduce((sum, answer) => sum + answer.buffers, 0)
    const shown = [...figures, String(statements.length), String(buffers)].map((value) => value.padStart(11))
    console.log(`${label.padEnd(36)}${shown.join("")}`)
    for (const { line } of answers) console.log(`    ${line}`)
    for (const statement of statements) {
      for (const line of yield* ask(() => plans.inside(database, again(statement)))) console.log(`      ${line}`)
      if (flags.plans) console.log(`\n${yield* ask(() => plans.whole(database, again(statement)))}\n`)
    }
  }
}, Effect.scoped)

printFacts(flags.quick ? "quick" : "whole")
const server = await start()
try {
  const database = Db.layerPostgres({
    url: Redacted.make(`${server.url}/postgres`),
    onStatement: (statement) => seen.push(statement)
  })
  await Effect.runPromise(Effect.provide(measure(), Stores.layer.pipe(Layer.provideMerge(database))))
} finally {
  await server.stop()
}
