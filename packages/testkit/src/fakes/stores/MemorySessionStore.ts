import type { ChangeCode } from "@castellan/domain/ChangeReason.ts"
import type { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { SandboxEvent, type SandboxEventType } from "@castellan/domain/sandbox/SandboxEvent.ts"
import { awake, Lifecycle, Session, type SessionId } from "@castellan/domain/session/Session.ts"
import { SessionStore } from "@castellan/domain/session/SessionStore.ts"
import { type DateTime, Effect, Layer, Option } from "effect"
import * as MemoryEventStore from "./MemoryEventStore.ts"
import { claimDueRows } from "./dueRows.ts"
import { pageOf } from "./pageOf.ts"

const make = (events: MemoryEventStore.MemoryEvents["Service"]) => {
  const rows = new Map<SessionId, Session>()

  const put = (session: Session) => {
    rows.set(session.id, session)
    return session
  }

  const own = (scope: AccountScope, id: SessionId) =>
    Option.filter(Option.fromUndefinedOr(rows.get(id)), ({ account }) => account === scope.account)

  const at = (scope: AccountScope, id: SessionId, version: number) =>
    Option.filter(own(scope, id), ({ lifecycle }) => lifecycle.version === version)

  const tell = (scope: AccountScope, type: SandboxEventType, code: ChangeCode, session: Session, at: DateTime.Utc) => {
    const { account, id, lifecycle } = session
    events.write(
      scope,
      new SandboxEvent({ account, type, sandbox: lifecycle.sandbox, session: id, code, reason: null, at })
    )
  }

  const withNextCheck = (session: Session, nextCheckAt: DateTime.Utc) =>
    put(new Session({ ...session, lifecycle: new Lifecycle({ ...session.lifecycle, nextCheckAt }) }))

  return SessionStore.of({
    add: (scope, session) =>
      Effect.sync(() => {
        if (!rows.has(session.id)) {
          tell(
            scope,
            "session.created",
            "created",
            put(new Session({ ...session, account: scope.account })),
            session.createdAt
          )
        }
        return own(scope, session.id)
      }),
    get: (scope, id) => Effect.sync(() => own(scope, id)),
    ownerOf: (id) => Effect.sync(() => Option.fromUndefinedOr(rows.get(id)?.account)),
    list: (scope, page) =>
      Effect.sync(() => {
        const listed = [...rows.values()].filter(({ account, ephemeral }) => account === scope.account && !ephemeral)
        return pageOf(listed, page, ({ createdAt, id }) => ({ at: createdAt.epochMilliseconds, id }))
      }),
    countAwake: (scope) =>
      Effect.sync(() => {
        const own = [...rows.values()].filter(({ account }) => account === scope.account)
        return own.filter(({ lifecycle }) => awake.includes(lifecycle.state)).length
      }),
    change: (scope, id, { repo, status, title }, now) =>
      Effect.sync(() =>
        Option.map(own(scope, id), (session) =>
          put(
            new Session({
              ...session,
              title: title ?? session.title,
              status: session.status === "archived" ? "archived" : (status ?? session.status),
              repo: session.repo ?? repo ?? null,
              updatedAt: now
            })
          )
        )
      ),
    compareAndSet: (scope, { after: session, event, expectedVersion }) =>
      Effect.sync(() => {
        const known = at(scope, session.id, expectedVersion)
        if (Option.isNone(known)) return false
        const { lifecycle, updatedAt } = session
        const isMoved = session.status === "archived" || known.value.status === "archived"
        put(new Session({ ...known.value, status: (isMoved ? session : known.value).status, lifecycle, updatedAt }))
        if (event !== null) events.write(scope, event)
        return true
      }),
    setNextCheck: (scope, id, version, nextCheckAt) =>
      Effect.sync(() =>
        Option.isSome(Option.map(at(scope, id, version), (session) => withNextCheck(session, nextCheckAt)))
      ),
    claimDue: (now, leaseExpiresAt, limit) =>
      Effect.sync(() =>
        claimDueRows(
          rows.values(),
          ({ lifecycle }) => lifecycle.nextCheckAt,
          now,
          limit,
          (session) => withNextCheck(session, leaseExpiresAt)
        )
      ),
    remove: (scope, session, now) =>
      Effect.sync(() => {
        const known = at(scope, session.id, session.lifecycle.version)
        if (Option.isNone(known)) return false
        rows.delete(session.id)
        tell(scope, "session.removed", "removed", known.value, now)
        return true
      })
  })
}

/** Stores sessions of accounts in memory. */
export const layer = Layer.effect(SessionStore, Effect.map(MemoryEventStore.MemoryEvents, make)).pipe(
  Layer.provide(MemoryEventStore.layer)
)
