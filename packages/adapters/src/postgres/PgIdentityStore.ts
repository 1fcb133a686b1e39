import { Account, AccountId } from "@castellan/domain/identity/Account.ts"
import { ApiKey, ApiKeyId } from "@castellan/domain/identity/ApiKey.ts"
import { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { DateTime, Effect, Layer, Option } from "effect"
import type { Selectable } from "kysely"
import { Db, query } from "./Db.ts"
import type { Tables } from "./Tables.ts"
import { timeOrNull, toDate, toDateOrNull } from "./times.ts"

type AccountRow = Selectable<Tables["accounts"]>
type KeyRow = Selectable<Omit<Tables["api_keys"], "digest">>

const toAccount = (row: AccountRow): Account =>
  new Account({
    id: AccountId.make(row.id),
    name: row.name,
    email: row.email,
    platformAdmin: row.platform_admin,
    createdAt: DateTime.makeUnsafe(row.created_at)
  })

const toKey = (row: KeyRow): ApiKey =>
  new ApiKey({
    id: ApiKeyId.make(row.id),
    account: AccountId.make(row.account_id),
    name: row.name,
    createdAt: DateTime.makeUnsafe(row.created_at),
    lastUsedAt: timeOrNull(row.last_used_at),
    expiresAt: timeOrNull(row.expires_at)
  })

const keyColumns = [
  "api_keys.id",
  "api_keys.account_id",
  "api_keys.name",
  "api_keys.created_at",
  "api_keys.last_used_at",
  "api_keys.expires_at"
] as const

export const layer = Layer.effect(
  IdentityStore,
  Effect.gen(function* () {
    const { kysely } = yield* Db

    return IdentityStore.of({
      addAccount: (account) =>
        query(() =>
          kysely
            .insertInto("accounts")
            .values({
              id: account.id,
              name: account.name,
              email: account.email,
              platform_admin: account.platformAdmin,
              created_at: toDate(account.createdAt)
            })
            .onConflict((conflict) => conflict.column("id").doNothing())
            .execute()
        ).pipe(Effect.asVoid),
      findAccount: (id) =>
        Effect.map(
          query(() => kysely.selectFrom("accounts").selectAll().where("id", "=", id).executeTakeFirst()),
          (row) => Option.map(Option.fromUndefinedOr(row), toAccount)
        ),
      findPlatformAdmin: Effect.map(
        query(() =>
          kysely
            .selectFrom("accounts")
            .selectAll()
            .where("platform_admin", "=", true)
            .orderBy("created_at")
            .limit(1)
            .executeTakeFirst()
        ),
        (row) => Option.map(Option.fromUndefinedOr(row), toAccount)
      ),
      addKey: (scope, key, digest) =>
        query(() =>
          kysely
            .insertInto("api_keys")
            .values({
              id: key.id,
              account_id: scope.account,
              name: key.name,
              digest,
              created_at: toDate(key.createdAt),
              last_used_at: toDateOrNull(key.lastUsedAt),
              expires_at: toDateOrNull(key.expiresAt)
            })
            .onConflict((conflict) => conflict.column("digest").doNothing())
            .execute()
        ).pipe(Effect.asVoid),
      findKey: (digest) =>
        Effect.map(
          query(() =>
            kysely
              .selectFrom("api_keys")
              .innerJoin("accounts", "accounts.id", "api_keys.account_id")
              .select(keyColumns)
              .select([
                "accounts.name as account_name",
                "accounts.email",
                "accounts.platform_admin",
                "accounts.created_at as account_created_at"
              ])
              .where("api_keys.digest", "=", digest)
              .executeTakeFirst()
          ),
          (row) =>
            Option.map(Option.fromUndefinedOr(row), (row) => ({
              key: toKey(row),
              account: toAccount({
                id: row.account_id,
                name: row.account_name,
                email: row.email,
                platform_admin: row.platform_admin,
                created_at: row.account_created_at
              })
            }))
        ),
      listKeys: (scope) =>
        Effect.map(
          query(() =>
            kysely
              .selectFrom("api_keys")
              .select(keyColumns)
              .where("account_id", "=", scope.account)
              .orderBy("created_at", "desc")
              .orderBy("id", "desc")
              .execute()
          ),
          (rows) => rows.map(toKey)
        ),
      removeKey: (scope, id) =>
        Effect.map(
          query(() =>
            kysely
              .deleteFrom("api_keys")
              .where("id", "=", id)
              .where("account_id", "=", scope.account)
              .returning("id")
              .execute()
          ),
          (rows) => rows.length > 0
        ),
      recordUse: (id, at) =>
        query(() =>
          kysely
            .updateTable("api_keys")
            .set({ last_used_at: toDate(at) })
            .where("id", "=", id)
            .where((or) => or.or([or("last_used_at", "is", null), or("last_used_at", "<", toDate(at))]))
            .execute()
        ).pipe(Effect.asVoid)
    })
  })
)
