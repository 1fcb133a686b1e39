import type { HostSupport } from "@castellan/domain/repo/RepoHost.ts"
import * as RepoUrl from "@castellan/domain/repo/RepoUrl.ts"
import { AccountId } from "@castellan/domain/identity/Account.ts"
import { FailureCode } from "@castellan/domain/FailureReason.ts"
import { LifecycleState, type Session, SessionId, SessionStatus } from "@castellan/domain/session/Session.ts"
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { field, nextPageOf, optional, pageOf, Text, Time } from "../Fields.ts"
import { Idempotent } from "../Idempotent.ts"
import { commandAnswers, NewSessionCommand } from "../NewCommand.ts"
import { Statuses } from "../Statuses.ts"

const title = Text.check(Schema.isMaxLength(500, { message: "must be at most 500 characters" }))

const NewSession = Schema.Struct({
  title: optional(title, "A title for people, 1 to 500 characters. Default: a generated one."),
  repoUrl: optional(
    Text,
    "The repository of the session. Default: the repository that it is first opened with; it never changes after that."
  ),
  organizationId: optional(
    AccountId,
    "The organization that the session works for. The caller has to be a member of it. Default: none."
  )
})

const SessionBody = Schema.Struct({
  id: field(SessionId, "The id of the session."),
  title: field(Schema.String, "Its title."),
  status: field(SessionStatus, "Its status, as its owner sets it."),
  repoUrl: field(Schema.NullOr(Schema.String), "The URL of its repository; null before it has one."),
  organizationId: field(Schema.NullOr(AccountId), "The organization that it works for; null if there is none."),
  branch: field(Schema.NullOr(Schema.String), "The branch that its sandbox was set up with; null before that."),
  sandboxId: field(Schema.NullOr(Schema.String), "The id of its sandbox, which never changes; null before the first."),
  lifecycleState: field(Schema.NullOr(LifecycleState), "The state of its sandbox; null before the first."),
  lifecycleVersion: field(Schema.Int, "Increases with every change of its lifecycle."),
  lifecycleError: field(
    Schema.NullOr(Schema.String),
    "Why its sandbox failed or was lost, as a sentence; null if it did not."
  ),
  lifecycleErrorCode: field(Schema.NullOr(FailureCode), "The code of `lifecycleError`."),
  lastActivityAt: field(Schema.NullOr(Time), "When it was last active, as an ISO 8601 string; null before that."),
  hibernateAfter: field(
    Schema.NullOr(Time),
    "When it hibernates unless it is active before, as an ISO 8601 string; null if no sandbox runs."
  ),
  sandboxExpiresAt: field(
    Schema.NullOr(Time),
    "When the provider stops its sandbox, as an ISO 8601 string; null if none runs."
  ),
  createdAt: field(Time, "When it was created, as an ISO 8601 string."),
  updatedAt: field(Time, "When it last changed, as an ISO 8601 string.")
}).annotate({ identifier: "Session", description: "A session, which has at most one sandbox." })

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

const SessionResponse = Schema.Struct({ session: SessionBody })

const params = { id: field(Schema.String, "The id of the session.") }

export const sessionErrors = [Statuses.SessionNotFound, Statuses.SessionForbidden] as const

/** Sessions. Each has one sandbox, which hibernates and is restored. */
export class SessionsApi extends HttpApiGroup.make("sessions")
  .add(
    HttpApiEndpoint.post("create", "/", {
      payload: NewSession,
      success: SessionResponse.pipe(HttpApiSchema.status(201)),
      error: [Statuses.RepoRefused, Statuses.OrganizationHidden]
    })
      .middleware(Idempotent)
      .annotateMerge(
        OpenApi.annotations({
          summary: "Create a session",
          description: "Creates no sandbox; `sessionSandbox.open` does."
        })
      ),
    HttpApiEndpoint.get("list", "/", {
      query: pageOf("sessions"),
      success: Schema.Struct({
        sessions: field(Schema.Array(SessionBody), "The sessions, newest first."),
        ...nextPageOf("sessions")
      })
    }).annotateMerge(
      OpenApi.annotations({
        summary: "List sessions, newest first",
        description: "Lists the caller's own sessions. Never wakes a sandbox."
      })
    ),
    HttpApiEndpoint.get("get", "/:id", { params, success: SessionResponse, error: sessionErrors }).annotateMerge(
      OpenApi.annotations({ summary: "Get a session", description: "Never wakes its sandbox." })
    ),
    HttpApiEndpoint.patch("change", "/:id", {
      params,
      payload: Schema.Struct({
        title: optional(title, "A new title, 1 to 500 characters. Default: the current one is kept."),
        status: optional(
          SessionStatus.annotate({ message: "must be running, completed, failed or archived" }),
          "A new status. Default: the current one is kept."
        )
      }),
      success: SessionResponse,
      error: sessionErrors
    }).annotateMerge(
      OpenApi.annotations({
        summary: "Rename, archive or restore a session",
        description:
          "Archiving stops the sandbox and keeps its files. Any other status makes an archived session usable again."
      })
    ),
    HttpApiEndpoint.post("run", "/:id/commands", {
      params,
      payload: NewSessionCommand,
      success: commandAnswers,
      error: [...sessionErrors, Statuses.SandboxNotRunning]
    })
      .middleware(Idempotent)
      .annotateMerge(
        OpenApi.annotations({
          summary: "Run a command in a session's sandbox",
          description: "The session does not hibernate while the command runs."
        })
      )
  )
  .prefix("/api/sessions")
  .annotate(OpenApi.Title, "Sessions") {}
