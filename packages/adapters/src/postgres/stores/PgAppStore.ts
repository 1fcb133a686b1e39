import { type AppliedAppTransition, eventFor } from "@castellan/domain/app/AppLifecycle.ts"
import { AppSandbox, AppState, isActive } from "@castellan/domain/app/AppSandbox.ts"
import { AppStore } from "@castellan/domain/app/AppStore.ts"
import { AccountId } from "@castellan/domain/identity/Account.ts"
import type { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { Port } from "@castellan/domain/sandbox/Port.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { DateTime, Effect, Layer, Option, Schema } from "effect"
import { type Kysely, type Selectable, sql } from "kysely"
import { Db, query } from "../Db.ts"
import type { Tables } from "../sql/Tables.ts"
import { timeOrNull, toDate, toDateOrNull } from "../sql/times.ts"
import { turnOf } from "../sql/turnOf.ts"

const toState = Schema.decodeUnknownSync(AppState)

type Row = Selectable<Tables["app_sandboxes"]>

const toApp = (row: Row): AppSandbox =>
  new AppSandbox({
    name: SandboxName.make(row.name),
    account: AccountId.make(row.account_id),
    state: toState(row.state),
    version: row.version,
    port: Port.make(row.port),
    createdAt: DateTime.makeUnsafe(row.created_at),
    expiresAt: timeOrNull(row.expires_at),
    nextCheckAt: timeOrNull(row.look_at),
    reason: row.reason
  })

/** Writes a new app with its event in the account's turn, unless something is in the way. */
const begun = async (db: Kysely<Tables>, scope: AccountScope, app: AppSandbox): Promise<Row | undefined> => {
  const { createdAt, expiresAt, nextCheckAt: lookAt, name, port, reason, state, version } = app
  const { rows } = await sql<Row>`
    with turn as materialized (${turnOf(scope)}),
    begun as (
      insert into app_sandboxes (name, account_id, state, version, port, created_at, expires_at, look_at, reason)
      select ${name}, ${scope.account}::uuid, ${state}, ${version}::integer, ${port}::integer,
        ${toDate(createdAt)}::timestamptz, ${toDateOrNull(expiresAt)}::timestamptz,
        ${toDateOrNull(lookAt)}::timestamptz, ${reason}
      from turn
      on conflict do nothing
      returning *
    ), told as (
      insert into events (account_id, type, sandbox, reason, at)
      select account_id, ${eventFor(app, createdAt).type}, name, reason, created_at from begun
    )
    select * from begun`.execute(db)
  return rows[0]
}

/** What keeps an app of that name from being begun: the one that has the name, or else the one that is starting. */
const inTheWayOf = async (db: Kysely<Tables>, scope: AccountScope, name: SandboxName): Promise<Row | undefined> => {
  const { rows } = await sql<Row>`
    select * from app_sandboxes where name = ${name} or (account_id = ${scope.account} and state = 'starting')
    order by name = ${name} desc limit 1`.execute(db)
  return rows[0]
}

/** Some of the steps can't be written: none is. */
class Refused extends Error {}

/** Whether an app would have been active beside another. */
const isBeside = (failure: unknown) =>
  (failure as { readonly constraint?: unknown } | null)?.constraint === "app_sandboxes_active"

/** Writes a step with its event in the account's turn, and tells whether its app was at the version before. */
const write = async (db: Kysely<Tables>, scope: AccountScope, { app, event }: AppliedAppTransition) => {
  const changed = db
    .updateTable("app_sandboxes")
    .set({
      state: app.state,
      version: app.version,
      expires_at: toDateOrNull(app.expiresAt),
      look_at: toDateOrNull(app.nextCheckAt),
      reason: app.reason
    })
    .where("name", "=", app.name)
    .where("account_id", "=", scope.account)
    .where("version", "=", app.version - 1)
    .where(sql<boolean>`(select taken from turn)`)
    .returning(["account_id", "name"])
  const at = toDateOrNull(event?.at ?? null)
  const { rows } = await sql`
    with turn as materialized (${turnOf(scope)}),
    changed as (${changed}),
    told as (
      insert into events (account_id, type, sandbox, reason, at)
      select account_id, ${event?.type ?? null}, name, ${event?.reason ?? null}, ${at}::timestamptz
      from changed where ${event !== null}::boolean
    )
    select name from changed`.execute(db)
  return rows.length === 1
}

/** An index sees each row as it is written: who makes room goes before who comes in. */
const inOrder = (steps: ReadonlyArray<AppliedAppTransition>) => [
  ...steps.filter(({ app }) => !isActive(app)),
  ...steps.filter(({ app }) => isActive(app))
]

const writeAll = (db: Kysely<Tables>, scope: AccountScope, steps: ReadonlyArray<AppliedAppTransition>) =>
  db.transaction().execute(async (db) => {
    for (const step of inOrder(steps)) if (!(await write(db, scope, step))) throw new Refused()
    return true
  })

export const layer = Layer.effect(
  AppStore,
  Effect.gen(function* () {
    const { kysely } = yield* Db

    const own = (scope: AccountScope) =>
      kysely.selectFrom("app_sandboxes").selectAll().where("account_id", "=", scope.account)

    const one = (run: () => Promise<Row | undefined>) =>
      Effect.map(query(run), (row) => Option.map(Option.fromUndefinedOr(row), toApp))

    return AppStore.of({
      begin: (scope, app) =>
        Effect.map(
          query(() =>
            // What is in the way stays there until it was read: the account's turn lasts as long as the transaction.
            kysely
              .transaction()
              .execute(async (db) => (await begun(db, scope, app)) ?? (await inTheWayOf(db, scope, app.name)))
          ),
          (row) =>
            Option.map(
              Option.filter(Option.fromUndefinedOr(row), ({ account_id }) => account_id === scope.account),
              toApp
            )
        ),
      get: (scope, name) => one(() => own(scope).where("name", "=", name).executeTakeFirst()),
      ownerOf: (name) =>
        Effect.map(
          query(() =>
            kysely.selectFrom("app_sandboxes").select("account_id").where("name", "=", name).executeTakeFirst()
          ),
          (row) => Option.map(Option.fromUndefinedOr(row), ({ account_id }) => AccountId.make(account_id))
        ),
      active: (scope) =>
        one(() =>
          own(scope)
            // As the index has it.
            .where(sql<boolean>`state in ('ready', 'stopped')`)
            .executeTakeFirst()
        ),
      listLive: (scope) =>
        Effect.map(
          query(() =>
            own(scope)
              // As the index has it.
              .where(sql<boolean>`state <> 'ended'`)
              .orderBy("created_at")
              .orderBy("name")
              .execute()
          ),
          (rows) => rows.map(toApp)
        ),
      compareAndSet: (scope, steps) =>
        query(async () => {
          const [step] = steps
          if (step === undefined) return true
          if (new Set(steps.map(({ app }) => app.name)).size < steps.length) return false
          try {
            return steps.length === 1 ? await write(kysely, scope, step) : await writeAll(kysely, scope, steps)
          } catch (failure) {
            if (failure instanceof Refused || isBeside(failure)) return false
            throw failure
          }
        }),
      claimDue: (now, until, limit) =>
        Effect.map(
          query(() =>
            // What another caller is just being given is passed over, not waited for.
            sql<Row>`
              with due as materialized (
                select name, look_at as was from app_sandboxes where look_at <= ${toDate(now)}
                order by look_at limit ${limit} for update skip locked
              ), claimed as (
                update app_sandboxes set look_at = ${toDate(until)} from due where app_sandboxes.name = due.name
                returning app_sandboxes.*, due.was
              )
              select * from claimed order by was`.execute(kysely)
          ),
          ({ rows }) => rows.map(toApp)
        )
    })
  })
)
