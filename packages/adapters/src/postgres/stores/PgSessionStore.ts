/** Stores sessions in Postgres. */
import { AccountId } from "@castellan/domain/identity/Account.ts"
import type { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { FailureCode } from "@castellan/domain/FailureReason.ts"
import { BranchName } from "@castellan/domain/repo/Repo.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import type { SandboxEvent } from "@castellan/domain/sandbox/SandboxEvent.ts"
import { Lifecycle, LifecycleState, Session, SessionId, SessionStatus } from "@castellan/domain/session/Session.ts"
import { SessionStore } from "@castellan/domain/session/SessionStore.ts"
import { DateTime, Effect, Layer, Option, Schema } from "effect"
import { type OperationNodeSource, type RawBuilder, type Selectable, sql } from "kysely"
import { Db, query } from "../Db.ts"
import { claimDue } from "../sql/claimDue.ts"
import { after, toPage } from "../sql/keyset.ts"
import type { Tables } from "../sql/Tables.ts"
import { timeOrNull, toDate, toDateOrNull } from "../sql/times.ts"
import { withEvent } from "../sql/withEvent.ts"

const toStatus = Schema.decodeUnknownSync(SessionStatus)
const toState = Schema.decodeUnknownSync(Schema.NullOr(LifecycleState))
const toSandbox = Schema.decodeUnknownSync(Schema.NullOr(SandboxName))
const toBranch = Schema.decodeUnknownSync(Schema.NullOr(BranchName))

/** A later server may write a code that this version does not know. */
const toCode = (code: string | null) => (isCode(code) ? code : null)
const isCode = Schema.is(FailureCode)

type Row = Selectable<Tables["sessions"]>

const toSession = (row: Row): Session =>
  new Session({
    id: SessionId.make(row.id),
    account: AccountId.make(row.account_id),
    title: row.title,
    status: toStatus(row.status),
    organization: row.organization_id === null ? null : AccountId.make(row.organization_id),
    repo: row.repo,
    ephemeral: row.ephemeral,
    createdAt: DateTime.makeUnsafe(row.created_at),
    updatedAt: DateTime.makeUnsafe(row.updated_at),
    lifecycle: new Lifecycle({
      state: toState(row.state),
      version: row.version,
      sandbox: toSandbox(row.sandbox),
      incarnation: row.incarnation,
      lastActivityAt: timeOrNull(row.last_activity_at),
      hibernateAfter: timeOrNull(row.hibernate_after),
      sandboxExpiresAt: timeOrNull(row.sandbox_expires_at),
      nextCheckAt: timeOrNull(row.look_at),
      needsCheckout: row.fresh,
      workspace: row.workspace ?? false,
      branch: toBranch(row.branch),
      attempt: row.attempt,
      error: row.error,
      errorCode: row.error === null ? null : toCode(row.error_code)
    })
  })

const fromLifecycle = (lifecycle: Lifecycle) => ({
  state: lifecycle.state,
  version: lifecycle.version,
  sandbox: lifecycle.sandbox,
  incarnation: lifecycle.incarnation,
  last_activity_at: toDateOrNull(lifecycle.lastActivityAt),
  hibernate_after: toDateOrNull(lifecycle.hibernateAfter),
  sandbox_expires_at: toDateOrNull(lifecycle.sandboxExpiresAt),
  look_at: toDateOrNull(lifecycle.nextCheckAt),
  fresh: lifecycle.needsCheckout,
  workspace: lifecycle.workspace,
  branch: lifecycle.branch,
  attempt: lifecycle.attempt,
  error: lifecycle.error,
  error_code: lifecycle.errorCode
})

export const layer = Layer.effect(
  SessionStore,
  Effect.gen(function* () {
    const { kysely } = yield* Db

    const own = (scope: AccountScope, id: SessionId) =>
      kysely.selectFrom("sessions").selectAll().where("id", "=", id).where("account_id", "=", scope.account)

    const one = (run: () => Promise<Row | undefined>) =>
      Effect.map(query(run), (row) => Option.map(Option.fromUndefinedOr(row), toSession))

    /** An update of the session if it is at that version. */
    const update = (scope: AccountScope, id: SessionId, version: number) =>
      kysely
        .updateTable("sessions")
        .where("id", "=", id)
        .where("account_id", "=", scope.account)
        .where("version", "=", version)
        .returningAll()

    const oneWithEvent = (
      scope: AccountScope,
      event: Pick<SandboxEvent, "type" | "code" | "reason" | "at">,
      change: (locked: RawBuilder<boolean>) => OperationNodeSource
    ) => one(() => withEvent<Row>(kysely, "sessions", scope, event, change))

    return SessionStore.of({
      add: Effect.fnUntraced(function* (scope, session) {
        const { createdAt, id, lifecycle, organization } = session
        const created = { type: "session.created", code: "created", reason: null, at: createdAt } as const
        const added = yield* oneWithEvent(scope, created, (locked) =>
          kysely
            .insertInto("sessions")
            .values({
              id: sql<string>`case when ${locked} then ${id} end`,
              account_id: scope.account,
              title: session.title,
              status: session.status,
              organization_id: organization,
              repo: session.repo,
              ephemeral: session.ephemeral,
              created_at: toDate(createdAt),
              updated_at: toDate(session.updatedAt),
              ...fromLifecycle(lifecycle)
            })
            .onConflict((conflict) => conflict.column("id").doNothing())
            .returningAll()
        )
        return Option.isSome(added) ? added : yield* one(() => own(scope, id).executeTakeFirst())
      }),
      get: (scope, id) => one(() => own(scope, id).executeTakeFirst()),
      ownerOf: (id) =>
        Effect.map(
          query(() => kysely.selectFrom("sessions").select("account_id").where("id", "=", id).executeTakeFirst()),
          (row) => Option.map(Option.fromUndefinedOr(row), ({ account_id }) => AccountId.make(account_id))
        ),
      list: (scope, page) =>
        Effect.map(
          query(() =>
            kysely
              .selectFrom("sessions")
              .selectAll()
              .where("account_id", "=", scope.account)
              .where(sql<boolean>`ephemeral = false`)
              .where(after(page, "id"))
              .orderBy("created_at", "desc")
              .orderBy("id", "desc")
              .limit(page.limit + 1)
              .execute()
          ),
          (rows) => toPage(rows.map(toSession), page, ({ createdAt, id }) => ({ at: createdAt.epochMilliseconds, id }))
        ),
      countAwake: (scope) =>
        Effect.map(
          query(() =>
            kysely
              .selectFrom("sessions")
              .select(sql<number>`count(*)::integer`.as("awake"))
              .where("account_id", "=", scope.account)
              // The condition of the partial index.
              .where(sql<boolean>`state in ('provisioning', 'active', 'restoring', 'hibernating')`)
              .executeTakeFirstOrThrow()
          ),
          ({ awake }) => awake
        ),
      change: (scope, id, { repo, status, title }, now) =>
        one(() =>
          kysely
            .updateTable("sessions")
            .set({
              ...(title !== undefined && { title }),
              ...(status !== undefined && { status: sql`case status when 'archived' then status else ${status} end` }),
              ...(repo !== undefined && { repo: sql`coalesce(repo, ${repo})` }),
              updated_at: toDate(now)
            })
            .where("id", "=", id)
            .where("account_id", "=", scope.account)
            .returningAll()
            .executeTakeFirst()
        ),
      compareAndSet: (scope, { after: session, event, expectedVersion }) => {
        const { id, lifecycle, status, updatedAt } = session
        const updated = update(scope, id, expectedVersion).set({
          ...fromLifecycle(lifecycle),
          status: sql`case when 'archived' in (status, ${status}) then ${status} else status end`,
          updated_at: toDate(updatedAt)
        })
        return Effect.map(
          event === null
            ? one(() => updated.executeTakeFirst())
            : oneWithEvent(scope, event, (locked) => updated.where(locked)),
          Option.isSome
        )
      },
      setNextCheck: (scope, id, version, nextCheckAt) =>
        Effect.map(
          one(() =>
            update(scope, id, version)
              .set({ look_at: toDate(nextCheckAt) })
              .executeTakeFirst()
          ),
          Option.isSome
        ),
      claimDue: (now, leaseExpiresAt, limit) =>
        Effect.map(
          query(() => claimDue(kysely, "sessions", now, leaseExpiresAt, limit)),
          (rows) => rows.map(toSession)
        ),
      remove: (scope, { id, lifecycle }, now) =>
        Effect.map(
          oneWithEvent(scope, { type: "session.removed", code: "removed", reason: null, at: now }, (locked) =>
            kysely
              .deleteFrom("sessions")
              .where("id", "=", id)
              .where("account_id", "=", scope.account)
              .where("version", "=", lifecycle.version)
              .where(locked)
              .returningAll()
          ),
          Option.isSome
        )
    })
  })
)
