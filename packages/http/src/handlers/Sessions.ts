import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { type AccountId, inLowerCase } from "@castellan/domain/identity/Account.ts"
import { Organizations } from "@castellan/domain/identity/Organizations.ts"
import { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import * as RepoUrl from "@castellan/domain/repo/RepoUrl.ts"
import { type Session, SessionId } from "@castellan/domain/session/Session.ts"
import { RepoRefused, SessionNotFound, Sessions } from "@castellan/domain/session/Sessions.ts"
import { TaskRuns } from "@castellan/domain/task/TaskRuns.ts"
import { DateTime, Effect, Option, Schema } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { Api } from "../api/Api.ts"
import { RequestNonce } from "../api/Idempotent.ts"
import { commandIn } from "../api/NewCommand.ts"
import { presentSession } from "../api/groups/Sessions.ts"
import { OrganizationHidden } from "../api/Statuses.ts"
import { present as presentRun } from "../api/groups/TaskRuns.ts"
import { Limits } from "../middleware/Limits.ts"
import { awaitRun } from "../streams/awaitRun.ts"

const isSessionId = Schema.is(SessionId)

/** The id of a session in lower case. A malformed id names no session. */
export const sessionId = (text: string) =>
  isSessionId(text) ? Effect.succeed(SessionId.make(text.toLowerCase())) : new SessionNotFound({ id: text })

/** Checks that the text is the URL of a repository at the configured host, and not whether the caller may read it. */
export const repoUrlChecked = Effect.map(
  RepoHost,
  ({ supports }) =>
    (text: string) =>
      Option.isSome(RepoUrl.at(supports, text)) || Option.isSome(RepoUrl.parse(supports.publicUrl, text))
        ? Effect.void
        : Effect.fail(new RepoRefused())
)

export const SessionsHandlers = HttpApiBuilder.group(
  Api,
  "sessions",
  Effect.fn(function* (handlers) {
    const sessions = yield* Sessions
    const organizations = yield* Organizations
    const runs = yield* TaskRuns
    const limits = yield* Limits
    const checkRepoUrl = yield* repoUrlChecked
    const host = (yield* RepoHost).supports

    const present = (session: Session) => presentSession(session, host)

    /** The id of the organization, if the caller is an active member. */
    const joined = Effect.fnUntraced(function* (id: AccountId | null) {
      if (id === null) return null
      const organization = inLowerCase(id)
      const isActive = (yield* organizations.list).some(
        ({ membership }) => membership.organization === organization && membership.status === "active"
      )
      return isActive ? organization : yield* new OrganizationHidden()
    })

    return handlers.handleAll({
      create: Effect.fnUntraced(function* ({ payload: { organizationId = null, repoUrl = null, title = null } }) {
        if (repoUrl !== null) yield* checkRepoUrl(repoUrl)
        const organization = yield* joined(organizationId)
        const scope = yield* AccountScope.own
        yield* limits.create(scope)
        const nonce = yield* RequestNonce
        const wanted = { title, repo: repoUrl, organization, nonce }
        return { session: present(yield* sessions.create(scope, wanted)) }
      }),
      list: Effect.fnUntraced(function* ({ query: { cursor = null, limit = 20 } }) {
        const { next, rows } = yield* sessions.list(yield* AccountScope.own, { limit, cursor })
        return { sessions: rows.map(present), ...(next === null ? {} : { next_cursor: next }) }
      }),
      get: Effect.fnUntraced(function* ({ params }) {
        return { session: present(yield* sessions.get(yield* AccountScope.own, yield* sessionId(params.id))) }
      }),
      change: Effect.fnUntraced(function* ({ params, payload: { status, title } }) {
        const wanted = { ...(title ? { title } : {}), ...(status ? { status } : {}) }
        const id = yield* sessionId(params.id)
        return { session: present(yield* sessions.change(yield* AccountScope.own, id, wanted)) }
      }),
      run: Effect.fnUntraced(function* ({ params, payload }) {
        const scope = yield* AccountScope.own
        const wanted = commandIn(payload)
        const id = yield* sessionId(params.id)
        if (payload.wait === true) yield* limits.stream
        const run = yield* sessions.run(scope, id, { ...wanted, nonce: yield* RequestNonce })
        if (payload.wait !== true) return { status: "success" as const, runId: run.id }
        const wait = { timeout: wanted.timeout, maxWait: limits.wait, lost: Effect.never }
        const ended = yield* awaitRun(runs, scope, run.id, wait)
        if (Option.isNone(ended)) return { status: "success" as const, runId: run.id }
        return { status: "success" as const, run: presentRun(ended.value, yield* DateTime.now) }
      })
    })
  })
)
