/** What is asked of sessions by their ids. */
import { Clock, Duration, Effect } from "effect"
import { badRequest, json, Refused } from "../wire/Answers.ts"
import * as Bodies from "../wire/Bodies.ts"
import { fresh, type KeptSession } from "./Kept.ts"
import * as Lifecycle from "./Lifecycle.ts"
import { answered } from "./NetworkPolicy.ts"
import { paged } from "../wire/Pages.ts"
import { troubled } from "./Commands.ts"
import { type Asked, mustRun, type Site } from "./Site.ts"
import { bodyOf, expirationRefused, integer } from "../wire/Wanted.ts"

/** The sessions of a project, or of one sandbox. */
export const list = Effect.fnUntraced(function* (site: Site, { query, teamId }: Asked) {
  const name = query.get("name")
  const own = [...site.sessions.values()].filter(
    ({ sandbox }) =>
      sandbox.owner.teamId === teamId &&
      sandbox.owner.projectId === (query.get("project") ?? "") &&
      (name === null || sandbox.name === name)
  )
  const places = new Map([...site.sessions.keys()].map((id, index) => [id, String(index).padStart(9, "0")]))
  const { items, pagination } = yield* paged(own, {
    query,
    by: ({ createdAt }) => createdAt,
    key: ({ id }) => places.get(id)!
  })
  return json({ sessions: items.map((one) => Bodies.session(one, site.home)), pagination })
})

/** A session as it is. */
export const show = (site: Site, session: KeptSession) =>
  json({ session: Bodies.session(session, site.home), routes: session.sandbox.routes })

/** Stops a session and says what became of it; one that stops already is waited for. */
export const stop = Effect.fnUntraced(function* (site: Site, session: KeptSession) {
  const { sandbox } = session
  const snapshot = yield* sandbox.turn.withPermit(
    Effect.suspend(() => {
      if (session.status === "running") return Lifecycle.end(site, session, Lifecycle.endOf(sandbox))
      return site.stopOfStopped === "ok" ? Effect.succeed(undefined) : Effect.as(mustRun(session), undefined)
    })
  )
  return json({
    session: Bodies.session(session, site.home),
    sandbox: Bodies.sandbox(sandbox, site.home),
    ...(snapshot === undefined ? {} : { snapshot: Bodies.snapshot(snapshot, snapshot.createdAt) })
  })
}, Effect.uninterruptible)

/** Takes a snapshot, which ends the session. */
export const snapshot = Effect.fnUntraced(function* (site: Site, session: KeptSession, asked: Asked) {
  const kept = yield* integer(yield* bodyOf(asked.body), "expiration")
  const refused = expirationRefused("expiration", kept)
  if (refused !== undefined) return yield* refused
  const taken = yield* session.sandbox.turn.withPermit(
    Effect.andThen(
      mustRun(session),
      Lifecycle.end(site, session, { as: "snapshotting", method: "manual", expiration: kept })
    )
  )
  if (taken === undefined) {
    return yield* new Refused({ status: 500, code: "internal_server_error", message: "The files are lost." })
  }
  const body = {
    snapshot: Bodies.snapshot(taken, taken.createdAt),
    session: Bodies.session(session, site.home)
  }
  return json(body, 201)
}, Effect.uninterruptible)

/** Gives a session more time, as far as the plan goes. */
export const extend = Effect.fnUntraced(function* (site: Site, session: KeptSession, asked: Asked) {
  yield* mustRun(session)
  const duration = (yield* integer(yield* bodyOf(asked.body), "duration")) ?? 0
  if (duration < 1000) return yield* badRequest("Invalid request: `duration` should be at least 1000.")
  const timeout = session.timeout + duration
  if (timeout > site.plan.maxTimeout) {
    const message = `The timeout would be ${timeout} ms; your plan allows ${site.plan.maxTimeout}.`
    return yield* new Refused({ status: 400, code: "sandbox_timeout_invalid", message })
  }
  yield* Effect.catch(
    site.provider.extend(session.sandbox.providerName, Duration.millis(duration)),
    troubled(site, session)
  )
  session.timeout = timeout
  session.updatedAt = yield* Clock.currentTimeMillis
  yield* Lifecycle.arm(site, session)
  return json({ session: Bodies.session(session, site.home) })
}, Effect.uninterruptible)

/** Tells a session what it may reach. */
export const networkPolicy = Effect.fnUntraced(function* (site: Site, session: KeptSession, asked: Asked) {
  yield* mustRun(session)
  const policy = answered(yield* bodyOf(asked.body))
  if (policy === undefined) return yield* badRequest("Invalid request: it should be a network policy.")
  session.networkPolicy = policy
  session.updatedAt = yield* Clock.currentTimeMillis
  return json({ session: Bodies.session(session, site.home) })
})

/** Where a terminal would be: its WebSocket is not part of this emulator. */
export const interactive = Effect.fnUntraced(function* (_: Site, session: KeptSession, asked: Asked) {
  yield* mustRun(session)
  return json({ url: `ws://${String(asked.headers["host"])}/interactive/${session.id}`, token: fresh(32) })
})
