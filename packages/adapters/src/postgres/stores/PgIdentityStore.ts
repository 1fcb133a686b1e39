/** Accounts, API keys and memberships in Postgres. */
import { Account, AccountId } from "@castellan/domain/identity/Account.ts"
import { ApiKey, ApiKeyId } from "@castellan/domain/identity/ApiKey.ts"
import { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { Membership, MembershipStatus, Role } from "@castellan/domain/identity/Membership.ts"
import { DateTime, Effect, Layer, Option, Result, Schema } from "effect"
import { type Kysely, type Selectable, sql } from "kysely"
import { Db, query } from "../Db.ts"
import type { Tables } from "../sql/Tables.ts"
import { timeOrNull, toDate, toDateOrNull } from "../sql/times.ts"

type AccountRow = Selectable<Tables["accounts"]>
type MembershipRow = Selectable<Tables["memberships"]>
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

const toRole = Schema.decodeUnknownSync(Role)
const toStatus = Schema.decodeUnknownSync(MembershipStatus)
const toTarget = Schema.decodeUnknownSync(Schema.Union([MembershipStatus, Schema.Literal("organization")]))

const toMembership = (row: MembershipRow): Membership =>
  new Membership({
    organization: AccountId.make(row.organization_id),
    account: AccountId.make(row.account_id),
    role: toRole(row.role),
    status: toStatus(row.status),
    createdAt: DateTime.makeUnsafe(row.created_at)
  })

const findMembership = (db: Kysely<Tables>, organization: AccountId, account: AccountId) =>
  db
    .selectFrom("memberships")
    .selectAll()
    .where("organization_id", "=", organization)
    .where("account_id", "=", account)
    .executeTakeFirst()
    .then((row) => Option.map(Option.fromUndefinedOr(row), toMembership))

/** Decides and writes a change of a membership. A row lock on the organization serializes its changes. */
const changeMember = <E>(
  db: Kysely<Tables>,
  organization: AccountId,
  { actor, at, decide, member }: Parameters<typeof IdentityStore.Service.changeMember<E>>[1]
) =>
  db.transaction().execute(async (db) => {
    await db.selectFrom("accounts").select("id").where("id", "=", organization).forNoKeyUpdate().execute()
    const known = await findMembership(db, organization, member)
    const { owners } = await db
      .selectFrom("memberships")
      .select(sql<number>`count(*)::int`.as("owners"))
      .where("organization_id", "=", organization)
      .where("role", "=", "owner")
      .where("status", "=", "active")
      .executeTakeFirstOrThrow()
    const decided = decide({ actor: await findMembership(db, organization, actor), member: known, owners })
    if (Result.isFailure(decided)) return Result.fail(decided.failure)
    if (Option.isNone(decided.success)) {
      await db
        .deleteFrom("memberships")
        .where("organization_id", "=", organization)
        .where("account_id", "=", member)
        .execute()
      return Result.succeed(Option.none<Membership>())
    }
    const membership = decided.success.value
    const row = await db
      .insertInto("memberships")
      .values({ organization_id: organization, account_id: member, ...membership, created_at: toDate(at) })
      .onConflict((conflict) => conflict.columns(["organization_id", "account_id"]).doUpdateSet(membership))
      .returningAll()
      .executeTakeFirstOrThrow()
    return Result.succeed(Option.some(toMembership(row)))
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
      findExisting: (asked) =>
        Effect.map(
          query(() =>
            sql<{ key: string | null; account: string | null }>`
              select id as key, null::uuid as account from api_keys where id = any(${asked.keys}::text[])
              union all
              select null, id from accounts where id = any(${asked.accounts}::uuid[])
            `.execute(kysely)
          ),
          ({ rows }) => ({
            keys: new Set(rows.flatMap(({ key }) => (key === null ? [] : [ApiKeyId.make(key)]))),
            accounts: new Set(rows.flatMap(({ account }) => (account === null ? [] : [AccountId.make(account)])))
          })
        ),
      recordUse: (id, at) =>
        query(() =>
          kysely
            .updateTable("api_keys")
            .set({ last_used_at: toDate(at) })
            .where("id", "=", id)
            .where((or) => or.or([or("last_used_at", "is", null), or("last_used_at", "<", toDate(at))]))
            .execute()
        ).pipe(Effect.asVoid),
      relationshipBetween: (actor, target) =>
        Effect.map(
          query(() =>
            sql<{ exists: boolean; role: string | null; status: string | null; target: string | null }>`
              select exists (select from accounts where id = ${target}::uuid) as exists,
                own.role, own.status,
                case when own.organization_id = ${target}::uuid then 'organization' else theirs.status end as target
              from (select) as always
              left join (
                memberships as own left join memberships as theirs
                  on theirs.organization_id = own.organization_id and theirs.account_id = ${target}::uuid
              ) on own.account_id = ${actor}::uuid
                and (own.organization_id = ${target}::uuid or theirs.account_id is not null)`.execute(kysely)
          ),
          ({ rows }) => ({
            targetExists: rows[0]!.exists,
            shared: rows
              .filter(({ role }) => role !== null)
              .map(({ role, status, target }) => ({
                role: toRole(role),
                status: toStatus(status),
                target: toTarget(target)
              }))
          })
        ),
      addOrganization: (scope, organization) =>
        query(() =>
          sql`
            with added as (
              insert into accounts (id, name, email, platform_admin, created_at)
              values (${organization.id}, ${organization.name}, ${organization.email}, ${organization.platformAdmin},
                ${toDate(organization.createdAt)})
              on conflict (id) do nothing
              returning id, created_at
            )
            insert into memberships (organization_id, account_id, role, status, created_at)
            select id, ${scope.account}::uuid, 'owner', 'active', created_at from added`.execute(kysely)
        ).pipe(Effect.asVoid),
      listOrganizations: (scope) =>
        Effect.map(
          query(() =>
            kysely
              .selectFrom("memberships")
              .innerJoin("accounts", "accounts.id", "memberships.organization_id")
              .selectAll("memberships")
              .select([
                "accounts.id",
                "accounts.name",
                "accounts.email",
                "accounts.platform_admin",
                "accounts.created_at as organization_created_at"
              ])
              .where("account_id", "=", scope.account)
              .orderBy("memberships.created_at")
              .orderBy("organization_id")
              .execute()
          ),
          (rows) =>
            rows.map((row) => ({
              organization: toAccount({ ...row, created_at: row.organization_created_at }),
              membership: toMembership(row)
            }))
        ),
      findMembership: (scope, organization) => query(() => findMembership(kysely, organization, scope.account)),
      listMembers: (scope) =>
        Effect.map(
          query(() =>
            kysely
              .selectFrom("memberships")
              .selectAll()
              .where("organization_id", "=", scope.account)
              .orderBy("created_at")
              .orderBy("account_id")
              .execute()
          ),
          (rows) => rows.map(toMembership)
        ),
      acceptMembership: (scope, organization) =>
        Effect.map(
          query(() =>
            kysely
              .updateTable("memberships")
              .set({ status: "active" })
              .where("organization_id", "=", organization)
              .where("account_id", "=", scope.account)
              .returningAll()
              .executeTakeFirst()
          ),
          (row) => Option.map(Option.fromUndefinedOr(row), toMembership)
        ),
      changeMember: (scope, wanted) =>
        Effect.flatMap(
          query(() => changeMember(kysely, scope.account, wanted)),
          Effect.fromResult
        )
    })
  })
)
