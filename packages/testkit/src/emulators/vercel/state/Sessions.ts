/** Handles the routes of sessions. */
import { Clock, Duration, Effect } from "effect"
import { badRequest, json, ApiError } from "../wire/responses.ts"
import * as serializers from "../wire/serializers.ts"
import { randomId, type SessionModel } from "./models.ts"
import * as Lifecycle from "./Lifecycle.ts"
import { NetworkPolicyRequest, toNetworkPolicy } from "./NetworkPolicy.ts"
import { paginate } from "../wire/pages.ts"
import { providerFailure } from "./Commands.ts"
import { type EmulatorRequest, requireRunning, type EmulatorState } from "./EmulatorState.ts"
import { decodeBody, expirationError, ExtendTimeout, TakeSnapshot } from "../wire/requestSchemas.ts"

/** Lists the sessions of a project or of one sandbox. */
export const list = Effect.fnUntraced(function* (state: EmulatorState, { query, teamId }: EmulatorRequest) {
  const name = query.get("name")
  const own = [...state.sessions.values()].filter(
    ({ sandbox }) =>
      sandbox.owner.teamId === teamId &&
      sandbox.owner.projectId === (query.get("project") ?? "") &&
      (name === null || sandbox.name === name)
  )
  const places = new Map([...state.sessions.keys()].map((id, index) => [id, String(index).padStart(9, "0")]))
  const { items, pagination } = yield* paginate(own, {
    query,
    by: ({ createdAt }) => createdAt,
    key: ({ id }) => places.get(id)!
  })
  return json({ sessions: items.map((one) => serializers.session(one, state.home)), pagination })
})

/** Returns a session. */
export const show = (state: EmulatorState, session: SessionModel) =>
  json({ session: serializers.session(session, state.home), routes: session.sandbox.routes })

/** Stops a session, or waits for it if it is stopping, and returns it. */
export const stop = Effect.fnUntraced(function* (state: EmulatorState, session: SessionModel) {
  const { sandbox } = session
  const snapshot = yield* sandbox.lock.withPermit(
    Effect.suspend(() => {
      if (session.status === "running") return Lifecycle.end(state, session, Lifecycle.endOf(sandbox))
      return state.stopOfStopped === "ok" ? Effect.succeed(undefined) : Effect.as(requireRunning(session), undefined)
    })
  )
  return json({
    session: serializers.session(session, state.home),
    sandbox: serializers.sandbox(sandbox, state.home),
    ...(snapshot === undefined ? {} : { snapshot: serializers.snapshot(snapshot, snapshot.createdAt) })
  })
}, Effect.uninterruptible)

/** Takes a snapshot, which ends the session. */
export const snapshot = Effect.fnUntraced(function* (
  state: EmulatorState,
  session: SessionModel,
  request: EmulatorRequest
) {
  const { expiration } = yield* decodeBody(TakeSnapshot, request.body)
  const error = expirationError("expiration", expiration)
  if (error !== undefined) return yield* error
  const taken = yield* session.sandbox.lock.withPermit(
    Effect.andThen(
      requireRunning(session),
      Lifecycle.end(state, session, { as: "snapshotting", method: "manual", expiration })
    )
  )
  if (taken === undefined) {
    return yield* new ApiError({ status: 500, code: "internal_server_error", message: "The files are lost." })
  }
  const body = {
    snapshot: serializers.snapshot(taken, taken.createdAt),
    session: serializers.session(session, state.home)
  }
  return json(body, 201)
}, Effect.uninterruptible)

/** Extends the timeout of a session within the limit of the plan. */
export const extend = Effect.fnUntraced(function* (
  state: EmulatorState,
  session: SessionModel,
  request: EmulatorRequest
) {
  yield* requireRunning(session)
  const { duration = 0 } = yield* decodeBody(ExtendTimeout, request.body)
  if (duration < 1000) return yield* badRequest("Invalid request: `duration` should be at least 1000.")
  const timeout = session.timeout + duration
  if (timeout > state.plan.maxTimeout) {
    const message = `The timeout would be ${timeout} ms; your plan allows ${state.plan.maxTimeout}.`
    return yield* new ApiError({ status: 400, code: "sandbox_timeout_invalid", message })
  }
  yield* Effect.catch(
    state.provider.extend(session.sandbox.providerName, Duration.millis(duration)),
    providerFailure(state, session)
  )
  session.timeout = timeout
  session.updatedAt = yield* Clock.currentTimeMillis
  yield* Lifecycle.arm(state, session)
  return json({ session: serializers.session(session, state.home) })
}, Effect.uninterruptible)

/** Changes the network policy of a session. */
export const networkPolicy = Effect.fnUntraced(function* (
  state: EmulatorState,
  session: SessionModel,
  request: EmulatorRequest
) {
  yield* requireRunning(session)
  session.networkPolicy = toNetworkPolicy(yield* decodeBody(NetworkPolicyRequest, request.body))
  session.updatedAt = yield* Clock.currentTimeMillis
  return json({ session: serializers.session(session, state.home) })
})

/** Returns the URL of a terminal. The emulator does not serve its WebSocket. */
export const interactive = Effect.fnUntraced(function* (
  _: EmulatorState,
  session: SessionModel,
  request: EmulatorRequest
) {
  yield* requireRunning(session)
  return json({ url: `ws://${String(request.headers["host"])}/interactive/${session.id}`, token: randomId(32) })
})
