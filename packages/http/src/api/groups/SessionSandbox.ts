import { LifecycleState, type Session } from "@castellan/domain/session/Session.ts"
import { type DateTime, Duration, Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { AppStatus } from "./Apps.ts"
import { field, milliseconds, optional, Text } from "../Fields.ts"
import { Idempotent } from "../Idempotent.ts"
import { Lenient } from "../KnownFields.ts"
import { Statuses } from "../Statuses.ts"
import { sessionErrors } from "./Sessions.ts"

const Epoch = Schema.Int

const LifecycleBody = Schema.Struct({
  serverTime: field(Epoch, "The server's time, in epoch milliseconds."),
  state: field(Schema.NullOr(LifecycleState), "The state of the sandbox; null before the first."),
  lastActivityAt: field(Schema.NullOr(Epoch), "The last activity, in epoch milliseconds; null if there was none."),
  hibernateAfter: field(
    Schema.NullOr(Epoch),
    "When it hibernates unless it is active before, in epoch milliseconds; null if no sandbox runs."
  ),
  sandboxExpiresAt: field(
    Schema.NullOr(Epoch),
    "When the provider stops the sandbox, in epoch milliseconds; null if none runs."
  )
}).annotate({ identifier: "Lifecycle", description: "The lifecycle of a session's sandbox." })

export const presentLifecycle = ({ lifecycle }: Session, now: DateTime.Utc): typeof LifecycleBody.Type => ({
  serverTime: now.epochMilliseconds,
  state: lifecycle.state,
  lastActivityAt: lifecycle.lastActivityAt?.epochMilliseconds ?? null,
  hibernateAfter: lifecycle.hibernateAfter?.epochMilliseconds ?? null,
  sandboxExpiresAt: lifecycle.sandboxExpiresAt?.epochMilliseconds ?? null
})

const sessionId = field(Text, "The id of the session.")

const success = { success: field(Schema.Literal(true), "Always true.") }

const hasSnapshot = field(Schema.Boolean, "Whether there are files that the next open restores.")

const SessionStatus = Schema.Struct({
  status: field(Schema.Literals(["active", "no_sandbox"]), "Whether the sandbox runs."),
  hasSnapshot,
  lifecycleVersion: field(Schema.Int, "Increases with every change of the lifecycle."),
  lifecycle: LifecycleBody
})

/** The sandbox of a session. */
export class SessionSandboxApi extends HttpApiGroup.make("sessionSandbox")
  .add(
    HttpApiEndpoint.post("open", "/", {
      payload: Schema.Struct({
        repoUrl: field(Text, "The repository of the session."),
        sessionId: optional(Text, "The session to open. Default: a new one.")
      }),
      success: Schema.Struct({
        createdAt: field(Epoch, "When the sandbox was created, in epoch milliseconds."),
        timeout: field(Schema.Int, "Milliseconds until the provider stops the sandbox."),
        currentBranch: field(Schema.NullOr(Schema.String), "The branch that is checked out; null if there is none."),
        mode: field(Schema.String, "The name of the provider, such as `local` or `vercel`."),
        timing: field(
          Schema.Struct({
            readyMs: field(Schema.Int, "Milliseconds from the arrival of the request until the sandbox was ready.")
          }),
          "How long the request took."
        )
      }),
      error: [
        ...sessionErrors,
        Statuses.RepoDiffers,
        Statuses.RepoRefused,
        Statuses.SandboxQuotaReached,
        Statuses.SandboxUnavailable,
        Statuses.SessionArchived,
        Statuses.SessionNotProvisioned,
        Statuses.SessionRepoUnusable
      ]
    })
      .middleware(Idempotent)
      .annotate(Lenient, true)
      .annotateMerge(
        OpenApi.annotations({
          summary: "Open a session's sandbox with its repository",
          description:
            "Creates the sandbox, restores it from hibernation, or finds it running, and answers once it is ready. Concurrent requests for one session share one sandbox."
        })
      ),
    HttpApiEndpoint.get("status", "/status", {
      query: {
        sessionId: field(Schema.optionalKey(Text), "The session. Default: the status of a web app is reported."),
        sandboxId: field(Schema.optionalKey(Schema.String), "The web app. Default: the active one.")
      },
      success: Schema.Union([SessionStatus, AppStatus]),
      error: [...sessionErrors, Statuses.AppNotFound, Statuses.AppStatusUnknown]
    })
      .annotate(Lenient, true)
      .annotateMerge(
        OpenApi.annotations({
          summary: "Get the status of a session's sandbox, or of a web app",
          description:
            "With `sessionId`: the stored status of that session's sandbox. Without: the status of the web app `sandboxId`, which the provider is asked for. Never wakes a sandbox."
        })
      ),
    HttpApiEndpoint.get("reconnect", "/reconnect", {
      query: { sessionId },
      success: Schema.Struct({
        status: field(
          Schema.Literals(["connected", "expired", "no_sandbox"]),
          "`connected` if the sandbox runs, `expired` if it did, `no_sandbox` if there was none."
        ),
        hasSnapshot,
        expiresAt: field(
          Schema.optionalKey(Epoch),
          "When the provider stops the sandbox, in epoch milliseconds. Only if it is connected."
        ),
        lifecycle: LifecycleBody
      }),
      error: sessionErrors
    }).annotateMerge(
      OpenApi.annotations({
        summary: "Check whether a session's sandbox still runs",
        description: "Asks the provider, for 15 s at most. Never wakes the sandbox."
      })
    ),
    HttpApiEndpoint.post("activity", "/activity", {
      payload: Schema.Struct({ sessionId }),
      success: Schema.Struct(success),
      error: [...sessionErrors, Statuses.SandboxNotRunning]
    }).annotateMerge(
      OpenApi.annotations({
        summary: "Record activity of a session",
        description: "Moves the time at which the session hibernates because it is idle."
      })
    ),
    HttpApiEndpoint.post("extend", "/extend", {
      payload: Schema.Struct({
        sessionId,
        ms: optional(
          milliseconds(Duration.hours(24)),
          "How much longer the sandbox runs, in milliseconds, 1 to 86400000 (24 hours). Default: the server's."
        )
      }),
      success: Schema.Struct({
        ...success,
        expiresAt: field(Epoch, "When the provider stops the sandbox, in epoch milliseconds."),
        extendedBy: field(Schema.Int, "How much longer the sandbox runs, in milliseconds.")
      }),
      error: [...sessionErrors, Statuses.SandboxNotRunning, Statuses.SandboxUnavailable]
    }).annotateMerge(
      OpenApi.annotations({
        summary: "Extend the life of a session's sandbox",
        description: "Moves the time at which the provider stops the sandbox. The provider may have a maximum."
      })
    ),
    HttpApiEndpoint.delete("hibernate", "/", {
      query: { sessionId },
      success: Schema.Struct({
        ...success,
        alreadyStopped: field(Schema.optionalKey(Schema.Boolean), "True if the sandbox was not running.")
      }),
      error: [...sessionErrors, Statuses.SandboxUnavailable]
    }).annotateMerge(
      OpenApi.annotations({
        summary: "Hibernate a session's sandbox now",
        description: "Stops the sandbox and keeps its files for the next open. May be repeated."
      })
    )
  )
  .prefix("/api/sandbox")
  .annotate(OpenApi.Title, "A session's sandbox") {}
