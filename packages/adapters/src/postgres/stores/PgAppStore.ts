/** Apps in Postgres. */
import { type AppliedAppTransition, createdEvent } from "@castellan/domain/app/AppLifecycle.ts"
import { AppSandbox, AppState, isActive } from "@castellan/domain/app/AppSandbox.ts"
import { AppStore } from "@castellan/domain/app/AppStore.ts"
import { AccountId } from "@castellan/domain/identity/Account.ts"
import type { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { Port } from "@castellan/domain/sandbox/Port.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { DateTime, Effect, Layer, Option, Schema } from "effect"
import { type Kysely, type Selectable, sql } from "kysely"
import { Db, query } from "../Db.ts"
import { claimDue } from "../sql/claimDue.ts"
import type { Tables } from "../sql/Tables.ts"
import { timeOrNull, toDate, toDateOrNull } from "../sql/times.ts"
import { withEvent } from "../sql/withEvent.ts"

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

/** Inserts a new app with its event, unless its name is taken or another app of the account is starting. */
const insert = (db: Kysely<Tables>, scope: AccountScope, app: AppSandbox): Promise<Row | undefined> =>
  withEvent<Row>(db, "app_sandboxes", scope, createdEvent(app), (locked) =>
    db
      .insertInto("app_sandboxes")
      .values({
        name: sql<string>`case when ${locked} then ${app.name} end`,
        account_id: scope.account,
        state: app.state,
        version: app.version,
        port: app.port,
        created_at: toDate(app.createdAt),
        expires_at: toDateOrNull(app.expiresAt),
        look_at: toDateOrNull(app.nextCheckAt),
        reason: app.reason
      })
      .onConflict((conflict) => conflict.doNothing())
      .returningAll()
  )

/** The app that prevents the insertion of this name: the one that has the name, or else the one that is starting. */
const findConflicting = async (
  db: Kysely<Tables>,
  scope: AccountScope,
  name: SandboxName
): Promise<Row | undefined> => {
  const { rows } = await sql<Row>`
    select * from app_sandboxes where name = ${name} or (account_id = ${scope.account} and state = 'starting')
    order by name = ${name} desc limit 1`.execute(db)
  return rows[0]
}

/** One of the transitions can't be written, so the transaction is rolled back. */
class TransitionRefused extends Error {}

/** Whether a write failed because the account would have had two active apps. */
const isSecondActive = (failure: unknown) =>
  (failure as { readonly constraint?: unknown } | null)?.constraint === "app_sandboxes_active"

/** Writes a transition with its event; false where the stored app has another version. */
const write = async (db: Kysely<Tables>, scope: AccountScope, applied: AppliedAppTransition) => {
  const { after: app, event, expectedVersion } = applied
  const row = await withEvent<Row>(db, "app_sandboxes", scope, event, (locked) =>
    db
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
      .where("version", "=", expectedVersion)
      .where(locked)
      .returningAll()
  )
  return row !== undefined
}

/** The unique index checks each row as it is written, so the retired app is written before the new active one. */
const inWriteOrder = (transitions: ReadonlyArray<AppliedAppTransition>) => [
  ...transitions.filter(({ after }) => !isActive(after)),
  ...transitions.filter(({ after }) => isActive(after))
]

const writeAll = (db: Kysely<Tables>, scope: AccountScope, transitions: ReadonlyArray<AppliedAppTransition>) =>
  db.transaction().execute(async (db) => {
    for (const one of inWriteOrder(transitions)) if (!(await write(db, scope, one))) throw new TransitionRefused()
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
            // The account's lock is held until the transaction ends, so the conflicting app is still there when it is read.
            kysely
              .transaction()
              .execute(async (db) => (await insert(db, scope, app)) ?? (await findConflicting(db, scope, app.name)))
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
            // The condition of the partial index.
            .where(sql<boolean>`state in ('ready', 'stopped')`)
            .executeTakeFirst()
        ),
      listLive: (scope) =>
        Effect.map(
          query(() =>
            own(scope)
              // The condition of the partial index.
              .where(sql<boolean>`state <> 'ended'`)
              .orderBy("created_at")
              .orderBy("name")
              .execute()
          ),
          (rows) => rows.map(toApp)
        ),
      compareAndSet: (scope, transitions) =>
        query(async () => {
          const [first] = transitions
          if (first === undefined) return true
          if (new Set(transitions.map(({ after }) => after.name)).size < transitions.length) return false
          try {
            return transitions.length === 1
              ? await write(kysely, scope, first)
              : await writeAll(kysely, scope, transitions)
          } catch (failure) {
            if (failure instanceof TransitionRefused || isSecondActive(failure)) return false
            throw failure
          }
        }),
      claimDue: (now, leaseExpiresAt, limit) =>
        Effect.map(
          query(() => claimDue(kysely, "app_sandboxes", now, leaseExpiresAt, limit)),
          (rows) => rows.map(toApp)
        )
    })
  })
)
