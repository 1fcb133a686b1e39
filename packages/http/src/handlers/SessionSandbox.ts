import { AppSandboxes } from "@castellan/domain/app/AppSandboxes.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { remaining } from "@castellan/domain/sandbox/Sandbox.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { hasSnapshot, isUp, Sessions } from "@castellan/domain/session/Sessions.ts"
import { DateTime, Duration, Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { Api } from "../api/Api.ts"
import { RequestNonce } from "../api/Idempotent.ts"
import { presentLifecycle } from "../api/groups/SessionSandbox.ts"
import { Limits } from "../middleware/Limits.ts"
import { RequestStartTime } from "../middleware/RequestStartTime.ts"
import { statusOf } from "./Apps.ts"
import { repoUrlChecked, sessionId } from "./Sessions.ts"

const success = true as const

export const SessionSandboxHandlers = HttpApiBuilder.group(
  Api,
  "sessionSandbox",
  Effect.fn(function* (handlers) {
    const sessions = yield* Sessions
    const apps = yield* AppSandboxes
    const limits = yield* Limits
    const checkRepoUrl = yield* repoUrlChecked
    const { name: mode } = (yield* SandboxProvider).supports

    return handlers.handleAll({
      open: Effect.fnUntraced(function* ({ payload }) {
        const scope = yield* AccountScope.own
        yield* checkRepoUrl(payload.repoUrl)
        yield* limits.create(scope)
        const { sandbox, session } = payload.sessionId
          ? yield* sessions.open(scope, yield* sessionId(payload.sessionId), payload.repoUrl)
          : yield* sessions.openOnce(scope, payload.repoUrl, yield* RequestNonce)
        const now = yield* DateTime.now
        return {
          createdAt: sandbox.createdAt.epochMilliseconds,
          timeout: remaining(sandbox, now),
          currentBranch: session.lifecycle.branch,
          mode,
          timing: { readyMs: Math.max(0, Math.round(now.epochMilliseconds - (yield* RequestStartTime))) }
        }
      }),
      status: Effect.fnUntraced(function* ({ query }) {
        if (query.sessionId === undefined) return yield* statusOf(apps, query.sandboxId)
        const session = yield* sessions.get(yield* AccountScope.own, yield* sessionId(query.sessionId))
        const now = yield* DateTime.now
        return {
          status: isUp(session, now) ? ("active" as const) : ("no_sandbox" as const),
          hasSnapshot: hasSnapshot(session, now),
          lifecycleVersion: session.lifecycle.version,
          lifecycle: presentLifecycle(session, now)
        }
      }),
      reconnect: Effect.fnUntraced(function* ({ query }) {
        const { session, status } = yield* sessions.reconnect(
          yield* AccountScope.own,
          yield* sessionId(query.sessionId)
        )
        const now = yield* DateTime.now
        const expiresAt = session.lifecycle.sandboxExpiresAt
        return {
          status,
          hasSnapshot: hasSnapshot(session, now),
          ...(status === "connected" && expiresAt !== null ? { expiresAt: expiresAt.epochMilliseconds } : {}),
          lifecycle: presentLifecycle(session, now)
        }
      }),
      activity: Effect.fnUntraced(function* ({ payload }) {
        yield* sessions.recordActivity(yield* AccountScope.own, yield* sessionId(payload.sessionId))
        return { success }
      }),
      extend: Effect.fnUntraced(function* ({ payload }) {
        const wanted = payload.ms ? Duration.millis(payload.ms) : null
        const id = yield* sessionId(payload.sessionId)
        const { by, session } = yield* sessions.extend(yield* AccountScope.own, id, wanted)
        return {
          success,
          expiresAt: session.lifecycle.sandboxExpiresAt!.epochMilliseconds,
          extendedBy: Duration.toMillis(by)
        }
      }),
      hibernate: Effect.fnUntraced(function* ({ query }) {
        const { stopped } = yield* sessions.hibernate(yield* AccountScope.own, yield* sessionId(query.sessionId))
        return { success, ...(stopped ? {} : { alreadyStopped: true }) }
      })
    })
  })
)
