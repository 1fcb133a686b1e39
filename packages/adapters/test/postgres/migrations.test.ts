import * as Db from "@castellan/adapters/postgres/Db.ts"
import { breaking, migrations, migratorOf } from "@castellan/adapters/postgres/Migrations.ts"
import * as Stores from "@castellan/adapters/postgres/stores.ts"
import { AccountId } from "@castellan/domain/identity/Account.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { EventStore } from "@castellan/domain/sandbox/EventStore.ts"
import { SessionTransition } from "@castellan/domain/session/SessionLifecycle.ts"
import { SessionId } from "@castellan/domain/session/Session.ts"
import { SessionStore } from "@castellan/domain/session/SessionStore.ts"
import * as given from "@castellan/testkit/given.ts"
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Effect, Layer, Option, Redacted } from "effect"
import { Kysely, PostgresDialect, type RawBuilder, sql } from "kysely"
import pg from "pg"
import { migratedLater } from "./later.ts"
import { postgresUrl } from "./databases.ts"

const names = Object.keys(migrations)

const connectedTo = (connectionString: string) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const pool = new pg.Pool({ connectionString, max: 2 })
      // The database may be dropped while a connection is still closing.
      pool.on("connect", (client) => client.on("error", () => undefined))
      return new Kysely<never>({ dialect: new PostgresDialect({ pool }) })
    }),
    (kysely) => Effect.promise(() => kysely.destroy())
  )

const connected = Effect.flatMap(postgresUrl, connectedTo)

const migratedTo = (kysely: Kysely<never>, name: string) =>
  Effect.promise(async () => {
    const { error } = await migratorOf(kysely).migrateTo(name)
    assert.isUndefined(error)
  })

interface Column {
  readonly table: string
  readonly column: string
  readonly type: string
  readonly nullable: boolean
  readonly filled: boolean
}

/** What a server relies on: columns, and by a line each what may refuse or change what it writes, and what it calls. */
const schemaOf = (kysely: Kysely<never>) =>
  Effect.promise(async () => {
    const columns = await sql<Column>`
      select table_name as table, column_name as column, udt_name as type, is_nullable = 'YES' as nullable,
        column_default is not null or is_identity = 'YES' as filled
      from information_schema.columns where table_schema = 'public'`.execute(kysely)
    const rules = await sql<{ readonly table: string; readonly rule: string }>`
      select conrelid::regclass::text as table, conname || ': ' || pg_get_constraintdef(oid) as rule
        from pg_constraint where connamespace = 'public'::regnamespace and conrelid <> 0 and contype <> 'n'
      union all
      select indrelid::regclass::text, pg_get_indexdef(indexrelid)
        from pg_index join pg_class on pg_class.oid = indexrelid
        where indisunique and relnamespace = 'public'::regnamespace
      union all
      select tgrelid::regclass::text, pg_get_triggerdef(oid) from pg_trigger where not tgisinternal`.execute(kysely)
    const functions = await sql<{ readonly name: string }>`
      select oid::regprocedure || ' ' || prorettype::regtype as name
      from pg_proc where pronamespace = 'public'::regnamespace`.execute(kysely)
    return { columns: columns.rows, rules: rules.rows, functions: functions.rows.map(({ name }) => name) }
  })

type SchemaSeen = Effect.Success<ReturnType<typeof schemaOf>>

/** What a server that knows only the first of two schemas would stumble over in the second. */
const obstacles = (before: SchemaSeen, after: SchemaSeen) => {
  const tables = new Set(before.columns.map(({ table }) => table))
  const nameOf = ({ column, table }: Column) => `${table}.${column}`
  const known = new Map(before.columns.map((column) => [nameOf(column), column]))
  const now = new Map(after.columns.map((column) => [nameOf(column), column]))
  const changed = [...known].flatMap(([name, { nullable, type }]) => {
    const column = now.get(name)
    if (column === undefined) return [`${name} is gone`]
    return column.type === type && column.nullable === nullable ? [] : [`${name} is another`]
  })
  const demanded = [...now].flatMap(([name, { filled, nullable, table }]) =>
    tables.has(table) && !known.has(name) && !nullable && !filled ? [`${name} has to be given`] : []
  )
  const rulesBefore = new Set(before.rules.map(({ rule }) => rule))
  const ruled = after.rules.flatMap(({ rule, table }) => (tables.has(table) && !rulesBefore.has(rule) ? [rule] : []))
  const lost = before.functions.filter((name) => !after.functions.includes(name))
  return [...changed, ...demanded, ...ruled, ...lost]
}

describe("Migrations", () => {
  it.live("only add, unless their name says that earlier servers can't run beside them", () =>
    Effect.gen(function* () {
      const kysely = yield* connected
      const found: Record<string, ReadonlyArray<string>> = {}
      let before = yield* schemaOf(kysely)
      for (const name of names) {
        yield* migratedTo(kysely, name)
        const after = yield* schemaOf(kysely)
        const here = breaking.test(name) ? [] : obstacles(before, after)
        if (here.length > 0) found[name] = here
        before = after
      }
      // From before the first release.
      assert.deepStrictEqual(found, { "0006_apps": ["base_images.account_id is another"] })
    }).pipe(Effect.scoped)
  )

  it.live("that would break earlier servers are distinguished from those that only add", () =>
    Effect.gen(function* () {
      const kysely = yield* connected
      yield* migratedTo(kysely, names.at(-1)!)
      const before = yield* schemaOf(kysely)
      const done = (statement: string) => Effect.promise(() => sql.raw(statement).execute(kysely))
      yield* done("alter table accounts add column later text, add column later_flag boolean not null default true")
      yield* done("create table later (id uuid primary key)")
      assert.deepStrictEqual(obstacles(before, yield* schemaOf(kysely)), [])
      yield* done("alter table sessions drop column title")
      yield* done("alter table accounts alter column name set not null")
      yield* done("alter table accounts alter column email type varchar")
      yield* done("alter table events add column later text not null")
      yield* done("alter table api_keys add constraint named check (name <> '')")
      yield* done("create unique index runs_by_task on task_runs (account_id, task)")
      yield* done("drop function live_sandboxes")
      assert.deepStrictEqual(obstacles(before, yield* schemaOf(kysely)).toSorted(), [
        "CREATE UNIQUE INDEX runs_by_task ON public.task_runs USING btree (account_id, task)",
        "accounts.email is another",
        "accounts.name is another",
        "events.later has to be given",
        "live_sandboxes(uuid,timestamp with time zone) bigint",
        "named: CHECK ((name <> ''::text))",
        "sessions.title is gone"
      ])
    }).pipe(Effect.scoped)
  )

  it.live("leave the working tree of a session in the home directory until it is restored", () =>
    Effect.gen(function* () {
      const url = yield* postgresUrl
      const kysely = yield* connectedTo(url)
      yield* migratedTo(kysely, "0008_error_codes")
      const id = SessionId.make("3f0c9a52-6d1e-4b7a-9a64-0b7f5f6f2c11")
      const account = AccountId.make("5f0c9a52-6d1e-4b7a-9a64-0b7f5f6f2c12")
      yield* Effect.promise(async () => {
        await sql`insert into accounts (id, platform_admin, created_at) values (${account}, false, now())`.execute(
          kysely
        )
        await sql`
          insert into sessions (id, account_id, title, status, ephemeral, created_at, updated_at, state, version, sandbox,
            fresh, attempt)
          values (${id}, ${account}, '', 'running', false, now(), now(), 'hibernated', 5, 'ses_x', false, 0)`.execute(
          kysely
        )
      })
      const scope = AccountScope.ofOwner({ account })
      yield* Effect.gen(function* () {
        const store = yield* SessionStore
        const before = Option.getOrThrow(yield* store.get(scope, id))
        assert.deepStrictEqual([before.lifecycle.needsCheckout, before.lifecycle.workspace], [false, false])
        const until = yield* DateTime.now
        const restore = given.step(before, SessionTransition.Restore({ leaseExpiresAt: until, lost: false }))
        assert.isTrue(yield* store.compareAndSet(scope, restore))
        const times = { expiresAt: until, idleAt: until, nextCheckAt: until }
        const run = SessionTransition.Activate({ ...times, incarnation: "run", workspace: true, branch: null })
        assert.isTrue(yield* store.compareAndSet(scope, given.step(restore.after, run)))
        assert.isTrue(Option.getOrThrow(yield* store.get(scope, id)).lifecycle.workspace)
      }).pipe(
        Effect.provide(Stores.layer.pipe(Layer.provide(Db.layerPostgres({ url: Redacted.make(url), connections: 1 }))))
      )
    }).pipe(Effect.scoped)
  )

  it.live("leave events without a code, as an event with a code of a later server is read", () =>
    Effect.gen(function* () {
      const url = yield* postgresUrl
      const kysely = yield* connectedTo(url)
      yield* migratedTo(kysely, "0009_session_workspaces")
      const account = AccountId.make("5f0c9a52-6d1e-4b7a-9a64-0b7f5f6f2c12")
      const run = (query: RawBuilder<unknown>) => Effect.promise(() => query.execute(kysely))
      yield* run(sql`insert into accounts (id, platform_admin, created_at) values (${account}, false, now())`)
      yield* run(sql`
        insert into events (account_id, type, reason, at)
        values (${account}, 'session.hibernating', 'it was idle', now())`)
      yield* migratedTo(kysely, "0010_event_codes")
      yield* run(sql`
        insert into events (account_id, type, code, at)
        values (${account}, 'session.active', 'started', now()), (${account}, 'session.active', 'of_later', now())`)
      const events = yield* Effect.flatMap(EventStore, (store) =>
        store.read(AccountScope.ofOwner({ account }), null, 10)
      ).pipe(
        Effect.provide(Stores.layer.pipe(Layer.provide(Db.layerPostgres({ url: Redacted.make(url), connections: 1 }))))
      )
      assert.deepStrictEqual(
        events.map(({ event }) => [event.type, event.code, event.reason]),
        [
          ["session.hibernating", null, "it was idle"],
          ["session.active", "started", null],
          ["session.active", null, null]
        ]
      )
    }).pipe(Effect.scoped)
  )

  it.live("of a later version neither disturb a server that runs nor keep one from starting", () =>
    Effect.gen(function* () {
      const url = Redacted.make(yield* postgresUrl)
      const server = Stores.layer.pipe(Layer.provideMerge(Db.layerPostgres({ url, connections: 1 })))
      const account = yield* Effect.gen(function* () {
        const made = yield* given.account()
        const look = Effect.flatMap(IdentityStore, (store) => store.findAccount(made.id))
        assert.deepStrictEqual(yield* look, Option.some(made))
        yield* migratedLater("9001_later")
        assert.deepStrictEqual(yield* look, Option.some(made))
        return made
      }).pipe(Effect.provide(server))
      const found = yield* Effect.provide(
        Effect.flatMap(IdentityStore, (store) => store.findAccount(account.id)),
        Layer.fresh(server)
      )
      assert.deepStrictEqual(found, Option.some(account))
    }).pipe(Effect.scoped)
  )

  it.live("of a later version that this one can't run with prevent it from starting", () =>
    Effect.gen(function* () {
      const url = yield* postgresUrl
      const layer = Db.layerPostgres({ url: Redacted.make(url) })
      const refusal = Effect.map(Effect.flip(Effect.provide(Db.Db, layer)), ({ message }) => message)
      yield* Effect.provide(migratedLater("9001_another_breaking"), layer)
      assert.strictEqual(
        yield* refusal,
        "DATABASE_URL names a database that can't be used: a later version migrated it with 9001_another_breaking, which this version can't use: update this server"
      )
    }).pipe(Effect.scoped)
  )

  it.live("run once, however many servers start at the same time", () =>
    Effect.gen(function* () {
      const url = Redacted.make(yield* postgresUrl)
      const all = Array.from({ length: 5 }, () =>
        Effect.provide(
          Effect.flatMap(Db.Db, ({ kysely }) =>
            Db.query(() => sql<{ name: string }>`select name from castellan_migrations order by name`.execute(kysely))
          ),
          Db.layerPostgres({ url, connections: 2 })
        )
      )
      for (const { rows } of yield* Effect.all(all, { concurrency: "unbounded" })) {
        assert.deepStrictEqual(
          rows.map(({ name }) => name),
          names
        )
      }
    }).pipe(Effect.scoped)
  )
})
