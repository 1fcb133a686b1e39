import type { HostSupport } from "@castellan/domain/repo/RepoHost.ts"
import * as RepoUrl from "@castellan/domain/repo/RepoUrl.ts"
import { AccountId } from "@castellan/domain/identity/Account.ts"
import { FailureCode } from "@castellan/domain/FailureReason.ts"
import { LifecycleState, type Session, SessionId, SessionStatus } from "@castellan/domain/session/Session.ts"
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { absent, cursorOf, pageOf, Text, Time } from "../Fields.ts"
import { Idempotent } from "../Idempotent.ts"

import { commandAnswers, NewSessionCommand } from "../NewCommand.ts"
import { Statuses } from "../Statuses.ts"

const title = Text.check(Schema.isMaxLength(500, { message: "must be at most 500 characters" }))

const NewSession = Schema.Struct({
  title: absent(title),
  /** The repository it works on; it keeps the one it is first opened with, if this is left out. */
  repoUrl: absent(Text),
  /** The organization it works for, of which the caller is a member. */
  organizationId: absent(AccountId)
})

const SessionBody = Schema.Struct({
  id: SessionId,
  title: Schema.String,
  status: SessionStatus,
  repoUrl: Schema.NullOr(Schema.String),
  organizationId: Schema.NullOr(AccountId),
  /** The branch its sandbox was set up with. */
  branch: Schema.NullOr(Schema.String),
  /** The name its sandbox has for life. */
  sandboxId: Schema.NullOr(Schema.String),
  lifecycleState: Schema.NullOr(LifecycleState),
  /** Grows with every change of its lifecycle. */
  lifecycleVersion: Schema.Int,
  /** Why it failed, or what was lost. */
  lifecycleError: Schema.NullOr(Schema.String),
  /** The code of `lifecycleError`. */
  lifecycleErrorCode: Schema.NullOr(FailureCode),
  lastActivityAt: Schema.NullOr(Time),
  hibernateAfter: Schema.NullOr(Time),
  sandboxExpiresAt: Schema.NullOr(Time),
  createdAt: Time,
  updatedAt: Time
}).annotate({ identifier: "Session" })

export const presentSession = ({ lifecycle, ...session }: Session, host: HostSupport): typeof SessionBody.Type => ({
  id: session.id,
  title: session.title,
  status: session.status,
  repoUrl: session.repo === null ? null : RepoUrl.current(host, session.repo),
  organizationId: session.organization,
  branch: lifecycle.branch,
  sandboxId: lifecycle.sandbox,
  lifecycleState: lifecycle.state,
  lifecycleVersion: lifecycle.version,
  lifecycleError: lifecycle.error,
  lifecycleErrorCode: lifecycle.errorCode,
  lastActivityAt: lifecycle.lastActivityAt,
  hibernateAfter: lifecycle.hibernateAfter,
  sandboxExpiresAt: lifecycle.sandboxExpiresAt,
  createdAt: session.createdAt,
  updatedAt: session.updatedAt
})

const One = Schema.Struct({ session: SessionBody })

const params = { id: Schema.String }

export const sessionErrors = [Statuses.SessionNotFound, Statuses.SessionForbidden] as const

/** Sessions: one sandbox each, that sleeps and wakes. */
export class SessionsApi extends HttpApiGroup.make("sessions")
  .add(
    HttpApiEndpoint.post("create", "/", {
      payload: NewSession,
      success: One.pipe(HttpApiSchema.status(201)),
      error: [Statuses.RepoRefused, Statuses.OrganizationHidden]
    })
      .middleware(Idempotent)
      .annotate(OpenApi.Summary, "Begin a session"),
    HttpApiEndpoint.get("list", "/", {
      query: pageOf("sessions"),
      success: Schema.Struct({
        sessions: Schema.Array(SessionBody),
        /** Where the list goes on; left out on its last page. */
        next_cursor: Schema.optionalKey(cursorOf("sessions"))
      })
    }).annotate(OpenApi.Summary, "List one's sessions, newest first"),
    HttpApiEndpoint.get("get", "/:id", { params, success: One, error: sessionErrors }).annotate(
      OpenApi.Summary,
      "One session"
    ),
    HttpApiEndpoint.patch("change", "/:id", {
      params,
      payload: Schema.Struct({
        title: absent(title),
        status: absent(SessionStatus.annotate({ message: "must be running, completed, failed or archived" }))
      }),
      success: One,
      error: sessionErrors
    }).annotate(OpenApi.Summary, "Rename a session, put it away, or take it out again"),
    HttpApiEndpoint.post("run", "/:id/commands", {
      params,
      payload: NewSessionCommand,
      success: commandAnswers,
      error: [...sessionErrors, Statuses.SandboxNotRunning]
    })
      .middleware(Idempotent)
      .annotate(OpenApi.Summary, "Run a command in a session's sandbox, which stays awake for it")
  )
  .prefix("/api/sessions")
  .annotate(OpenApi.Title, "Sessions") {}
