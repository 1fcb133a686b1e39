import { AccountSandbox } from "@castellan/domain/account/AccountSandbox.ts"
import { AccountStore } from "@castellan/domain/account/AccountStore.ts"
import { AccountId } from "@castellan/domain/identity/Account.ts"
import { SandboxStatus } from "@castellan/domain/sandbox/Sandbox.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { DateTime, Effect, Layer, Option, Schema } from "effect"
import { type Selectable, sql } from "kysely"
import { Db, query } from "./Db.ts"
import { after, toPage } from "./keyset.ts"
import type { Tables } from "./Tables.ts"
import { timeOrNull, toDate, toDateOrNull } from "./times.ts"

const toStatus = Schema.decodeUnknownSync(SandboxStatus)

const toSandbox = (row: Selectable<Tables["account_sandboxes"]>): AccountSandbox =>
  new AccountSandbox({
    name: SandboxName.make(row.name),
    account: AccountId.make(row.account_id),
    status: toStatus(row.status),
    createdAt: DateTime.makeUnsafe(row.created_at),
    expiresAt: timeOrNull(row.expires_at),
    reason: row.reason
  })

export const layer = Layer.effect(
  AccountStore,
  Effect.gen(function* () {
    const { kysely } = yield* Db

    const own = (account: string, name: SandboxName) =>
      kysely
        .selectFrom("account_sandboxes")
        .selectAll()
        .where("name", "=", name)
        .where("account_id", "=", account)
        .executeTakeFirst()

    return AccountStore.of({
      add: Effect.fnUntraced(function* (scope, sandbox) {
        const added = yield* query(() =>
          kysely
            .insertInto("account_sandboxes")
            .values({
              name: sandbox.name,
              account_id: scope.account,
              status: sandbox.status,
              reason: sandbox.reason,
              created_at: toDate(sandbox.createdAt),
              expires_at: toDateOrNull(sandbox.expiresAt)
            })
            .onConflict((conflict) => conflict.column("name").doNothing())
            .returningAll()
            .executeTakeFirst()
        )
        const row = added ?? (yield* query(() => own(scope.account, sandbox.name)))
        return Option.map(Option.fromUndefinedOr(row), toSandbox)
      }),
      get: (scope, name) =>
        Effect.map(
          query(() => own(scope.account, name)),
          (row) => Option.map(Option.fromUndefinedOr(row), toSandbox)
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
      see: (scope, sightings) => {
        if (sightings.length === 0) return Effect.void
        const seen = sightings.map(
          ({ expiresAt, name, reason, status }) =>
            sql`(${name}::text, ${status}::text, ${reason}::text, ${toDateOrNull(expiresAt)}::timestamptz)`
        )
        return query(() =>
          sql`
            update account_sandboxes as known
            set status = seen.status, reason = seen.reason, expires_at = seen.expires_at
            from (values ${sql.join(seen)}) as seen (name, status, reason, expires_at)
            where known.name = seen.name and known.account_id = ${scope.account}`.execute(kysely)
        ).pipe(Effect.asVoid)
      },
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
        )
    })
  })
)
