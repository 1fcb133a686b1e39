/** Base images in Postgres. */
import { AccountId } from "@castellan/domain/identity/Account.ts"
import { BaseImage, ImageKey } from "@castellan/domain/sandbox/BaseImage.ts"
import { BaseImageStore } from "@castellan/domain/sandbox/BaseImageStore.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import { DateTime, Effect, Layer, Option } from "effect"
import { type Selectable, sql } from "kysely"
import { Db, query } from "../Db.ts"
import type { Tables } from "../sql/Tables.ts"
import { timeOrNull, toDate } from "../sql/times.ts"

type Row = Selectable<Tables["base_images"]>

const toImage = (row: Row): BaseImage =>
  new BaseImage({
    key: ImageKey.make(row.key),
    account: row.account_id === null ? null : AccountId.make(row.account_id),
    current: row.current === null ? null : SnapshotId.make(row.current),
    builtAt: timeOrNull(row.built_at),
    builder: row.builder === null ? null : SandboxName.make(row.builder),
    leaseExpiresAt: timeOrNull(row.builder_until),
    failures: row.failures,
    retryAfter: timeOrNull(row.retry_after),
    error: row.error,
    replaced: row.replaced.map((id) => SnapshotId.make(id)),
    usedAt: DateTime.makeUnsafe(row.used_at)
  })

const toHour = (time: DateTime.Utc) => toDate(DateTime.startOf(time, "hour"))

const noBuilder = { builder: null, builder_until: null } as const

/** `replaced` with the current snapshot added, if there is one. */
const replaced = sql<ReadonlyArray<string>>`
  case when current is null then replaced else array_append(replaced, current) end`

export const layer = Layer.effect(
  BaseImageStore,
  Effect.gen(function* () {
    const { kysely } = yield* Db

    const change = (key: ImageKey) => kysely.updateTable("base_images").where("key", "=", key).returning("key")

    const hasChanged = (update: { readonly execute: () => Promise<ReadonlyArray<unknown>> }) =>
      Effect.map(
        query(() => update.execute()),
        (rows) => rows.length > 0
      )
    const execute = (update: { readonly execute: () => Promise<ReadonlyArray<unknown>> }) =>
      Effect.asVoid(hasChanged(update))

    return BaseImageStore.of({
      find: (key) =>
        Effect.map(
          query(() => kysely.selectFrom("base_images").selectAll().where("key", "=", key).executeTakeFirst()),
          (row) => Option.map(Option.fromUndefinedOr(row), toImage)
        ),
      recordUse: (key, at) =>
        execute(
          change(key)
            .set({ used_at: toHour(at) })
            .where("used_at", "<", toHour(at))
        ),
      claimBuild: ({ account, builder, key, staleBefore, until }, now) =>
        Effect.map(
          query(() =>
            // Locks the row and gives it as it was. Where there is none, one of several concurrent claims inserts it.
            // The union names its columns, since the table of a later version may have more.
            sql<Row>`
              with before as materialized (select * from base_images where key = ${key} for update),
              claimed as (
                update base_images as image
                set builder = ${builder}, builder_until = ${toDate(until)}
                from before
                where image.key = before.key
                  and coalesce(before.builder_until, '-infinity') <= ${toDate(now)}
                  and coalesce(before.retry_after, '-infinity') <= ${toDate(now)}
                  and (before.current is null or coalesce(before.built_at, '-infinity') < ${toDate(staleBefore)})
                returning before.key, before.account_id, before.current, before.built_at, before.builder,
                  before.builder_until, before.failures, before.retry_after, before.error, before.replaced,
                  before.used_at
              ), made as (
                insert into base_images (key, account_id, builder, builder_until, failures, replaced, used_at)
                select ${key}, ${account}::uuid, ${builder}, ${toDate(until)}::timestamptz, 0, '{}',
                  ${toHour(now)}::timestamptz
                where not exists (select from before)
                on conflict (key) do nothing
                returning key, account_id, current, built_at, null::text, null::timestamptz, failures, retry_after,
                  error, replaced, used_at
              )
              select * from claimed union all select * from made`.execute(kysely)
          ),
          ({ rows: [before] }) => Option.map(Option.fromUndefinedOr(before), toImage)
        ),
      renewLease: (key, builder, until) =>
        hasChanged(
          change(key)
            .set({ builder_until: toDate(until) })
            .where("builder", "=", builder)
        ),
      completeBuild: (key, builder, snapshot, at) =>
        hasChanged(
          change(key)
            .set({ ...noBuilder, current: snapshot, built_at: toDate(at), replaced })
            .set({ failures: 0, retry_after: null, error: null })
            .where("builder", "=", builder)
        ),
      failBuild: (key, builder, error, retryAfter) =>
        execute(
          change(key)
            .set({ ...noBuilder, failures: sql`failures + 1`, error, retry_after: toDate(retryAfter) })
            .where("builder", "=", builder)
        ),
      markLost: (key, snapshot) =>
        execute(change(key).set({ current: null, built_at: null }).where("current", "=", snapshot)),
      listUnneeded: (now, unusedSince, limit) =>
        Effect.map(
          query(() =>
            // One select for each reason, so that each uses its own index.
            sql<Row>`
              select * from base_images where key in (
                (select key from base_images where cardinality(replaced) > 0 order by used_at, key limit ${limit})
                union all
                (select key from base_images where builder is not null and builder_until <= ${toDate(now)}
                  order by used_at, key limit ${limit})
                union all
                (select key from base_images where current is not null and used_at < ${toDate(unusedSince)}
                  order by used_at, key limit ${limit})
              )
              order by used_at, key limit ${limit}`.execute(kysely)
          ),
          ({ rows }) => rows.map(toImage)
        ),
      dropReplaced: (key, snapshot) => execute(change(key).set({ replaced: sql`array_remove(replaced, ${snapshot})` })),
      dropBuilder: (key, builder, now) =>
        execute(change(key).set(noBuilder).where("builder", "=", builder).where("builder_until", "<=", toDate(now))),
      retire: (key, unusedSince) =>
        execute(change(key).set({ current: null, built_at: null, replaced }).where("used_at", "<", toDate(unusedSince)))
    })
  })
)
