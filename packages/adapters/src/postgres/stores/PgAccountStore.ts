/** Sandboxes of accounts in Postgres. */
import { AccountSandbox } from "@castellan/domain/account/AccountSandbox.ts"
import { AccountStore, changeCodeOf } from "@castellan/domain/account/AccountStore.ts"
import { AccountId } from "@castellan/domain/identity/Account.ts"
import { SandboxStatus } from "@castellan/domain/sandbox/Sandbox.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxQuotaReached } from "@castellan/domain/sandbox/SandboxQuota.ts"
import { DateTime, Effect, Layer, Option, Schema } from "effect"
import { type Selectable, sql } from "kysely"
import { Db, query } from "../Db.ts"
import { after, toPage } from "../sql/keyset.ts"
import type { Tables } from "../sql/Tables.ts"
import { timeOrNull, toDate, toDateOrNull } from "../sql/times.ts"
import { accountLock } from "../sql/accountLock.ts"

const toStatus = Schema.decodeUnknownSync(SandboxStatus)

type Row = Selectable<Tables["account_sandboxes"]>

const toSandbox = (row: Row): AccountSandbox =>
  new AccountSandbox({
    name: SandboxName.make(row.name),
    account: AccountId.make(row.account_id),
    status: toStatus(row.status),
    createdAt: DateTime.makeUnsafe(row.created_at),
    expiresAt: timeOrNull(row.expires_at),
    reason: row.reason,
    removedAt: timeOrNull(row.removed_at)
  })

/** When a sandbox expired; one without an expiry was never created and counts from its insertion. */
const expiredAt = sql<Date>`coalesce(expires_at, created_at)`

export const layer = Layer.effect(
  AccountStore,
  Effect.gen(function* () {
    const { kysely } = yield* Db

    const named = (name: SandboxName) => kysely.selectFrom("account_sandboxes").selectAll().where("name", "=", name)

    return AccountStore.of({
      add: Effect.fnUntraced(function* (scope, sandbox, limit) {
        // One statement counts, inserts and writes the event. `live_sandboxes` takes the account's lock, so concurrent calls
        // can't exceed the limit. A second statement runs only where nothing was inserted.
        const added = yield* query(() =>
          sql<Row>`
            with added as (
              insert into account_sandboxes (name, account_id, status, reason, created_at, expires_at, removed_at)
              select ${sandbox.name}, ${scope.account}::uuid, ${sandbox.status}, ${sandbox.reason},
                ${toDate(sandbox.createdAt)}::timestamptz, ${toDateOrNull(sandbox.expiresAt)}::timestamptz,
                ${toDateOrNull(sandbox.removedAt)}::timestamptz
              where live_sandboxes(${scope.account}, ${toDate(sandbox.createdAt)}) < ${limit}
              on conflict (name) do nothing
              returning *
            ), written as (
              insert into events (account_id, type, sandbox, code, reason, at)
              select account_id, 'sandbox.' || status, name, 'created', reason, created_at from added
            )
            select * from added`.execute(kysely)
        )
        const row = added.rows[0] ?? (yield* query(() => named(sandbox.name).executeTakeFirst()))
        if (row === undefined) return yield* new SandboxQuotaReached({ account: scope.account, limit })
        return row.account_id === scope.account ? Option.some(toSandbox(row)) : Option.none()
      }),
      get: (scope, name) =>
        Effect.map(
          query(() => named(name).where("account_id", "=", scope.account).executeTakeFirst()),
          (row) => Option.map(Option.fromUndefinedOr(row), toSandbox)
        ),
      countLive: (now) =>
        Effect.map(
          query(() =>
            kysely
              .selectFrom("account_sandboxes")
              .select(({ fn }) => fn.countAll<string>().as("live"))
              .where("status", "in", ["pending", "running", "stopping"])
              .where((row) => row.or([row("expires_at", "is", null), row("expires_at", ">", toDate(now))]))
              .executeTakeFirstOrThrow()
          ),
          ({ live }) => Number(live)
        ),
      list: (scope, page) =>
        Effect.map(
          query(() =>
            kysely
              .selectFrom("account_sandboxes")
              .selectAll()
              .where("account_id", "=", scope.account)
              .where(after(page, "name"))
              .orderBy("created_at", "desc")
              .orderBy("name", "desc")
              .limit(page.limit + 1)
              .execute()
          ),
          (rows) => toPage(rows.map(toSandbox), page, (row) => ({ at: row.createdAt.epochMilliseconds, id: row.name }))
        ),
      recordObserved: Effect.fnUntraced(function* (scope, states) {
        if (states.length === 0) return new Set<SandboxName>()
        const observed = states.map(
          (state) =>
            sql`(${state.name}::text, ${state.status}::text, ${changeCodeOf(state)}::text, ${state.reason}::text,
              ${toDateOrNull(state.expiresAt)}::timestamptz)`
        )
        const now = toDate(yield* DateTime.now)
        // Rows are locked before they are compared, so that of two concurrent calls only one writes the event of a change.
        const { rows } = yield* query(() =>
          sql<{ name: string }>`
            with account as materialized (${accountLock(scope)}),
            observed as materialized (
              select known.name, known.status as was, observed.status, observed.code, observed.reason, observed.expires_at
              from account, account_sandboxes as known
                join (values ${sql.join(observed)}) as observed (name, status, code, reason, expires_at)
                  on observed.name = known.name
              where known.account_id = ${scope.account} and known.removed_at is null
              for update of known
            ), changed as (
              update account_sandboxes as known
              set status = observed.status, reason = observed.reason, expires_at = observed.expires_at
              from observed where known.name = observed.name
              returning known.name
            ), written as (
              insert into events (account_id, type, sandbox, code, reason, at)
              select ${scope.account}::uuid, 'sandbox.' || status, name, code, reason, ${now}::timestamptz
              from observed where status <> was
            )
            select name from changed`.execute(kysely)
        )
        return new Set(rows.map(({ name }) => SandboxName.make(name)))
      }),
      listUnfinished: (before, limit) =>
        Effect.map(
          query(() =>
            kysely
              .selectFrom("account_sandboxes")
              .selectAll()
              .where("status", "=", "pending")
              .where("created_at", "<", toDate(before))
              .orderBy("created_at")
              .limit(limit)
              .execute()
          ),
          (rows) => rows.map(toSandbox)
        ),
      listKept: (scope, limit) =>
        Effect.map(
          query(() =>
            kysely
              .selectFrom("account_sandboxes")
              .selectAll()
              .where("account_id", "=", scope.account)
              .where("removed_at", "is", null)
              .orderBy("created_at")
              .orderBy("name")
              .limit(limit)
              .execute()
          ),
          (rows) => rows.map(toSandbox)
        ),
      listExpired: (before, limit) =>
        Effect.map(
          query(() =>
            kysely
              .selectFrom("account_sandboxes")
              .selectAll()
              .where("removed_at", "is", null)
              .where("status", "<>", "pending")
              .where(expiredAt, "<", toDate(before))
              .orderBy(expiredAt)
              .limit(limit)
              .execute()
          ),
          (rows) => rows.map(toSandbox)
        ),
      recordRemoved: (scope, names, at, reason) =>
        names.length === 0
          ? Effect.void
          : query(() =>
              sql`
                with account as materialized (${accountLock(scope)}),
                changed as (
                  update account_sandboxes
                  set status = case status when 'failed' then status else 'stopped' end,
                    removed_at = ${toDate(at)}, reason = ${reason.sentence}
                  from account
                  where name in (${sql.join(names)}) and account_id = ${scope.account} and removed_at is null
                  returning name, reason, removed_at
                )
                insert into events (account_id, type, sandbox, code, reason, at)
                select ${scope.account}::uuid, 'sandbox.removed', name, ${reason.code}, reason, removed_at from changed`.execute(
                kysely
              )
            ).pipe(Effect.asVoid),
      totals: (_, page) =>
        Effect.map(
          query(() =>
            // Counts first, so that only the accounts of the page are joined.
            kysely
              .with("totals", (from) =>
                from
                  .selectFrom("account_sandboxes")
                  .select(["account_id", sql<string>`account_id::text`.as("id")])
                  .select([sql<number>`count(*)::int`.as("sandboxes"), sql<Date>`max(created_at)`.as("created_at")])
                  .groupBy("account_id")
              )
              .with("page", (from) =>
                from
                  .selectFrom("totals")
                  .selectAll()
                  .where(after(page, "id"))
                  .orderBy("created_at", "desc")
                  .orderBy("id", "desc")
                  .limit(page.limit + 1)
              )
              .selectFrom("page")
              .innerJoin("accounts", "accounts.id", "page.account_id")
              .select(["page.id", "accounts.email", "page.sandboxes", "page.created_at"])
              .orderBy("page.created_at", "desc")
              .orderBy("page.id", "desc")
              .execute()
          ),
          (rows) =>
            toPage(
              rows.map((row) => ({
                account: AccountId.make(row.id),
                email: row.email,
                sandboxes: row.sandboxes,
                lastCreatedAt: DateTime.makeUnsafe(row.created_at)
              })),
              page,
              (total) => ({ at: total.lastCreatedAt.epochMilliseconds, id: total.account })
            )
        )
    })
  })
)
