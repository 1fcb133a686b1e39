import { FileMode, listingLimits, SandboxFile, SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import { SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import { Duration, Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { SandboxBody } from "./AccountSandboxes.ts"
import { BodyLimit } from "../BodyLimit.ts"
import { absent, forAccount, milliseconds, pageOfFiles, pathCursorOf, Time } from "../Fields.ts"
import { Idempotent } from "../Idempotent.ts"

import { commandAnswers, NewCommand } from "../NewCommand.ts"
import { Statuses } from "../Statuses.ts"

/** Bytes of a file that is written through the API. */
export const fileLimit = 50 * 1024 * 1024

const success = { status: Schema.Literal("success") }

const errors = [Statuses.AccountForbidden, Statuses.SandboxNotFound] as const
const idle = [...errors, Statuses.SandboxNotRunning, Statuses.SandboxUnavailable] as const

const one = { params: { sandboxId: Schema.String }, query: forAccount }

const Sandbox = Schema.Struct({ ...success, sandbox: SandboxBody })

/** What whoever holds a sandbox does with it. */
export class SandboxOperationsApi extends HttpApiGroup.make("sandbox")
  .add(
    HttpApiEndpoint.get("get", "/:sandboxId", { ...one, success: Sandbox, error: errors }).annotate(
      OpenApi.Summary,
      "One sandbox as it is now"
    ),
    HttpApiEndpoint.post("run", "/:sandboxId/commands", {
      ...one,
      payload: NewCommand,
      success: commandAnswers,
      error: idle
    })
      .middleware(Idempotent)
      .annotate(OpenApi.Summary, "Run a command in a sandbox"),
    HttpApiEndpoint.get("files", "/:sandboxId/files", {
      params: one.params,
      query: {
        ...forAccount,
        ...pageOfFiles("files", `at most ${listingLimits.entries}`),
        path: Schema.optionalKey(SandboxPath),
        recursive: Schema.optionalKey(
          Schema.Literals(["true", "false", "1", "0"]).annotate({ message: "must be true or false" })
        )
      },
      success: Schema.Struct({
        ...success,
        files: Schema.Array(Schema.Struct({ ...SandboxFile.fields, modifiedAt: Time })),
        next_cursor: Schema.optionalKey(pathCursorOf("files"))
      }),
      error: [...idle, Statuses.FileNotFound, Statuses.FileRefused]
    }).annotateMerge(
      OpenApi.annotations({
        summary: "List a directory of a sandbox",
        description: `Entries in order of their paths, at most ${listingLimits.entries}; \`next_cursor\` continues the list where there are more. A page may end early where names are long. \`recursive\` goes ${listingLimits.depth} levels down unless \`depth\` says how many. \`502\` with code \`sandbox_no_answer\` or \`sandbox_bad_answer\` if the sandbox does not answer in time, or not with a listing.`
      })
    ),
    HttpApiEndpoint.get("readFile", "/:sandboxId/file", {
      params: one.params,
      query: { ...forAccount, path: SandboxPath },
      success: HttpApiSchema.StreamUint8Array(),
      error: [...idle, Statuses.FileNotFound, Statuses.FileRefused]
    }).annotate(OpenApi.Summary, "Read a file of a sandbox"),
    HttpApiEndpoint.put("writeFile", "/:sandboxId/file", {
      params: one.params,
      query: { ...forAccount, path: SandboxPath, mode: Schema.optionalKey(FileMode) },
      payload: HttpApiSchema.StreamUint8Array({ maxBytes: fileLimit }),
      success: Schema.Struct({ ...success, path: SandboxPath, size: Schema.Int }),
      error: [...idle, Statuses.FileNotFound, Statuses.FileRefused]
    })
      .annotate(BodyLimit, fileLimit)
      .annotate(OpenApi.Summary, "Write a file of a sandbox, whole or not at all"),
    HttpApiEndpoint.post("snapshot", "/:sandboxId/snapshot", {
      ...one,
      payload: Schema.Struct({ expiresInMs: absent(milliseconds(Duration.days(365))) }),
      success: Schema.Struct({
        ...success,
        snapshotId: SnapshotId,
        expiresAt: Time,
        /** Whether taking it has stopped the sandbox. */
        stopped: Schema.Boolean
      }),
      error: [...errors, Statuses.SandboxUnavailable, Statuses.SnapshotInProgress]
    })
      .middleware(Idempotent)
      .annotate(OpenApi.Summary, "Keep a sandbox's files as they are now"),
    HttpApiEndpoint.post("fork", "/:sandboxId/fork", {
      ...one,
      success: Sandbox,
      error: [
        ...errors,
        Statuses.SandboxNotCreated,
        Statuses.SandboxQuotaReached,
        Statuses.SandboxUnavailable,
        Statuses.SnapshotInProgress
      ]
    })
      .middleware(Idempotent)
      .annotate(OpenApi.Summary, "Another running sandbox with the same files"),
    HttpApiEndpoint.post("extend", "/:sandboxId/extend", {
      ...one,
      payload: Schema.Struct({ ms: milliseconds(Duration.hours(24)) }),
      success: Sandbox,
      error: idle
    }).annotate(OpenApi.Summary, "Let a sandbox run longer"),
    HttpApiEndpoint.delete("remove", "/:sandboxId", {
      ...one,
      success: Schema.Struct(success),
      error: [...errors, Statuses.SandboxUnavailable]
    }).annotate(OpenApi.Summary, "Stop a sandbox and forget its files")
  )
  .prefix("/api/sandboxes")
  .annotate(OpenApi.Title, "One sandbox") {}
