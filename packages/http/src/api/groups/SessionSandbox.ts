import { LifecycleState, type Session } from "@castellan/domain/session/Session.ts"
import { type DateTime, Duration, Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { AppStatus } from "./Apps.ts"
import { absent, milliseconds, Text } from "../Fields.ts"
import { Idempotent } from "../Idempotent.ts"
import { Lenient } from "../KnownFields.ts"
import { sessionErrors } from "./Sessions.ts"
import { Statuses } from "../Statuses.ts"

const Epoch = Schema.Int

const LifecycleBody = Schema.Struct({
  /** Epoch milliseconds, by the server's clock; and so are the other times. */
  serverTime: Epoch,
  state: Schema.NullOr(LifecycleState),
  lastActivityAt: Schema.NullOr(Epoch),
  hibernateAfter: Schema.NullOr(Epoch),
  sandboxExpiresAt: Schema.NullOr(Epoch)
}).annotate({ identifier: "Lifecycle" })

export const presentLifecycle = ({ lifecycle }: Session, now: DateTime.Utc): typeof LifecycleBody.Type => ({
  serverTime: now.epochMilliseconds,
  state: lifecycle.state,
  lastActivityAt: lifecycle.lastActivityAt?.epochMilliseconds ?? null,
  hibernateAfter: lifecycle.hibernateAfter?.epochMilliseconds ?? null,
  sandboxExpiresAt: lifecycle.sandboxExpiresAt?.epochMilliseconds ?? null
})

const ofSession = { sessionId: Text }

const success = Schema.Literal(true)

/** The sandbox of a session. */
export class SessionSandboxApi extends HttpApiGroup.make("sessionSandbox")
  .add(
    HttpApiEndpoint.post("open", "/", {
      payload: Schema.Struct({
        repoUrl: Text,
        /** The session whose sandbox it is; one for once if it is left out. */
        sessionId: absent(Text)
      }),
      success: Schema.Struct({
        /** When the sandbox was made, in epoch milliseconds. */
        createdAt: Epoch,
        /** Milliseconds until it stops by itself. */
        timeout: Schema.Int,
        currentBranch: Schema.NullOr(Schema.String),
        /** The provider. */
        mode: Schema.String,
        timing: Schema.Struct({
          /** Milliseconds from the arrival of the request until the sandbox was ready. */
          readyMs: Schema.Int
        })
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
      .annotate(OpenApi.Summary, "Open a session: its sandbox, running, with its repository"),
    HttpApiEndpoint.get("status", "/status", {
      query: { sessionId: Schema.optionalKey(Text), sandboxId: Schema.optionalKey(Schema.String) },
      success: Schema.Union([
        Schema.Struct({
          status: Schema.Literals(["active", "no_sandbox"]),
          /** Whether there are files that the next open brings back. */
          hasSnapshot: Schema.Boolean,
          lifecycleVersion: Schema.Int,
          lifecycle: LifecycleBody
        }),
        AppStatus
      ]),
      error: [...sessionErrors, Statuses.AppNotFound, Statuses.AppStatusUnknown]
    })
      .annotate(Lenient, true)
      .annotateMerge(
        OpenApi.annotations({
          summary: "What is known of a session's sandbox, or of a web app's",
          description:
            "With `sessionId`, of that session's; asks nobody. Without, of the web app that `sandboxId` names, or of the active one. Wakes nothing."
        })
      ),
    HttpApiEndpoint.get("reconnect", "/reconnect", {
      query: ofSession,
      success: Schema.Struct({
        status: Schema.Literals(["connected", "expired", "no_sandbox"]),
        hasSnapshot: Schema.Boolean,
        /** Epoch milliseconds; where it is connected. */
        expiresAt: Schema.optionalKey(Epoch),
        lifecycle: LifecycleBody
      }),
      error: sessionErrors
    }).annotate(OpenApi.Summary, "Whether a session's sandbox is still there; wakes nothing"),
    HttpApiEndpoint.post("activity", "/activity", {
      payload: Schema.Struct(ofSession),
      success: Schema.Struct({ success }),
      error: [...sessionErrors, Statuses.SandboxNotRunning]
    }).annotate(OpenApi.Summary, "Say that a session is in use"),
    HttpApiEndpoint.post("extend", "/extend", {
      payload: Schema.Struct({ ...ofSession, ms: absent(milliseconds(Duration.hours(24))) }),
      success: Schema.Struct({ success, expiresAt: Epoch, extendedBy: Schema.Int }),
      error: [...sessionErrors, Statuses.SandboxNotRunning, Statuses.SandboxUnavailable]
    }).annotate(OpenApi.Summary, "Let a session's sandbox run longer"),
    HttpApiEndpoint.delete("hibernate", "/", {
      query: ofSession,
      success: Schema.Struct({ success, alreadyStopped: Schema.optionalKey(Schema.Boolean) }),
      error: [...sessionErrors, Statuses.SandboxUnavailable]
    }).annotate(OpenApi.Summary, "Put a session's sandbox to sleep now")
  )
  .prefix("/api/sandbox")
  .annotate(OpenApi.Title, "A session's sandbox") {}
