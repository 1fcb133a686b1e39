/** Environments and the records of snapshots in Postgres. */
import { Environment } from "@castellan/domain/account/Environment.ts"
import { type EnvironmentChange, EnvironmentStore } from "@castellan/domain/account/EnvironmentStore.ts"
import { SnapshotRecord, SnapshotKey } from "@castellan/domain/account/SnapshotRecord.ts"
import { AccountId } from "@castellan/domain/identity/Account.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import { RunId } from "@castellan/domain/task/TaskRun.ts"
import { DateTime, Effect, Layer, Option, Schema } from "effect"
import { type Selectable, sql } from "kysely"
import { Db, query } from "../Db.ts"
import type { Tables } from "../sql/Tables.ts"
import { timeOrNull, toDate } from "../sql/times.ts"

const toSnapshotId = Schema.decodeUnknownSync(Schema.NullOr(SnapshotId))
const toSetup = Schema.decodeUnknownSync(Schema.NullOr(RunId))
const toPurpose = Schema.decodeUnknownSync(SnapshotRecord.fields.purpose)

const toEnvironment = (row: Selectable<Tables["environments"]>): Environment =>
  new Environment({
    account: AccountId.make(row.account_id),
    snapshot: toSnapshotId(row.snapshot),
    expiresAt: timeOrNull(row.expires_at),
    repo: row.repo,
    granted: row.granted,
    setup: toSetup(row.setup),
    createdAt: DateTime.makeUnsafe(row.created_at)
  })

const toSnapshot = (row: Selectable<Tables["kept_snapshots"]>): SnapshotRecord =>
  new SnapshotRecord({
    key: SnapshotKey.make(row.key),
    account: AccountId.make(row.account_id),
    source: SandboxName.make(row.source),
    id: toSnapshotId(row.snapshot),
    purpose: toPurpose(row.purpose),
    startedAt: DateTime.makeUnsafe(row.started_at),
    expiresAt: DateTime.makeUnsafe(row.expires_at)
  })

const fromChange = ({ repo, snapshot }: EnvironmentChange) => ({
  ...(snapshot && { snapshot: snapshot.id as string, expires_at: toDate(snapshot.expiresAt) }),
  ...(repo && { repo: repo.url, granted: repo.granted })
})

export const layer = Layer.effect(
  EnvironmentStore,
  Effect.gen(function* () {
    const { kysely } = yield* Db

    /** Runs a statement that returns at most one row. */
    const one = <Row, A>(run: () => Promise<Row | undefined>, to: (row: Row) => A) =>
      Effect.map(query(run), (row) => Option.map(Option.fromUndefinedOr(row), to))

    return EnvironmentStore.of({
      get: (scope) =>
        one(
          () =>
            kysely.selectFrom("environments").selectAll().where("account_id", "=", scope.account).executeTakeFirst(),
          toEnvironment
        ),
      save: (scope, change, now) => {
        const owned = { account_id: scope.account, ...fromChange(change) }
        return Effect.map(
          query(() =>
            kysely
              .insertInto("environments")
              .values({ granted: false, created_at: toDate(now), ...owned })
              .onConflict((conflict) => conflict.column("account_id").doUpdateSet(owned))
              .returningAll()
              .executeTakeFirstOrThrow()
          ),
          toEnvironment
        )
      },
      forget: (scope, snapshot) =>
        query(() =>
          kysely
            .updateTable("environments")
            .set({ snapshot: null, expires_at: null })
            .where("account_id", "=", scope.account)
            .where("snapshot", "=", snapshot)
            .execute()
        ).pipe(Effect.asVoid),
      claimSetup: (scope, run, instead, now) =>
        Effect.map(
          query(() =>
            // The second of two concurrent claims waits for the first one's row and compares with that.
            sql<{ setup: string }>`
              insert into environments as known (account_id, granted, setup, created_at)
              values (${scope.account}, false, ${run}, ${toDate(now)})
              on conflict (account_id) do update set setup =
                case when known.setup is null or known.setup = ${instead}::text then excluded.setup else known.setup end
              returning setup`.execute(kysely)
          ),
          ({ rows }) => RunId.make(rows[0]!.setup)
        ),
      saveSetup: (scope, run, change) =>
        one(
          () =>
            kysely
              .updateTable("environments")
              .set({ setup: run, ...fromChange(change) })
              .where("account_id", "=", scope.account)
              .where("setup", "=", run)
              .returningAll()
              .executeTakeFirst(),
          toEnvironment
        ),
      remove: (scope) =>
        one(
          () =>
            kysely.deleteFrom("environments").where("account_id", "=", scope.account).returningAll().executeTakeFirst(),
          toEnvironment
        ),

      reserveSnapshot: Effect.fnUntraced(function* (scope, snapshot) {
        const reserved = yield* one(
          () =>
            kysely
              .insertInto("kept_snapshots")
              .values({
                key: snapshot.key,
                account_id: scope.account,
                source: snapshot.source,
                purpose: snapshot.purpose,
                started_at: toDate(snapshot.startedAt),
                expires_at: toDate(snapshot.expiresAt)
              })
              .onConflict((conflict) => conflict.doNothing())
              .returningAll()
              .executeTakeFirst(),
          toSnapshot
        )
        if (Option.isSome(reserved)) return reserved
        return yield* one(
          () =>
            kysely
              .selectFrom("kept_snapshots")
              .selectAll()
              .where("key", "=", snapshot.key)
              .where("account_id", "=", scope.account)
              .executeTakeFirst(),
          toSnapshot
        )
      }),
      completeSnapshot: (scope, key, id) =>
        Effect.map(
          query(() =>
            kysely
              .updateTable("kept_snapshots")
              .set({ snapshot: id })
              .where("key", "=", key)
              .where("account_id", "=", scope.account)
              .where((or) => or.or([or("snapshot", "is", null), or("snapshot", "=", id)]))
              .returning("key")
              .execute()
          ),
          (rows) => rows.length > 0
        ),
      findSnapshot: (scope, id) =>
        one(
          () =>
            kysely
              .selectFrom("kept_snapshots")
              .selectAll()
              .where("snapshot", "=", id)
              .where("account_id", "=", scope.account)
              .limit(1)
              .executeTakeFirst(),
          toSnapshot
        ),
      listSnapshots: (scope, source) =>
        Effect.map(
          query(() =>
            kysely
              .selectFrom("kept_snapshots")
              .selectAll()
              .where("account_id", "=", scope.account)
              .$if(source !== null, (of) => of.where("source", "=", source))
              .orderBy("started_at")
              .orderBy("key")
              .execute()
          ),
          (rows) => rows.map(toSnapshot)
        ),
      deleteSnapshot: (scope, key) =>
        query(() =>
          kysely.deleteFrom("kept_snapshots").where("key", "=", key).where("account_id", "=", scope.account).execute()
        ).pipe(Effect.asVoid),
      listUnneeded: (now, before, limit) =>
        Effect.map(
          query(() =>
            // One select for each reason, so that each uses its own index.
            sql<Selectable<Tables["kept_snapshots"]>>`
              select * from kept_snapshots where key in (
                (select key from kept_snapshots where expires_at < ${toDate(now)} order by started_at, key limit ${limit})
                union all
                (select key from kept_snapshots where snapshot is null and started_at < ${toDate(before)}
                  order by started_at, key limit ${limit})
                union all
                (select key from kept_snapshots as record
                  where purpose <> 'manual' and not saved and started_at < ${toDate(before)}
                    and not exists (select from environments where environments.snapshot = record.snapshot)
                  order by started_at, key limit ${limit})
              )
              order by started_at, key limit ${limit}`.execute(kysely)
          ),
          ({ rows }) => rows.map(toSnapshot)
        )
    })
  })
)
