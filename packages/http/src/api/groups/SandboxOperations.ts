import { FileMode, listingLimits, SandboxFile, SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import { SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import { Duration, Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { SandboxBody } from "./AccountSandboxes.ts"
import { BodyLimit } from "../BodyLimit.ts"
import { field, forAccount, milliseconds, nextPageOfFiles, optional, pageOfFiles, success, Time } from "../Fields.ts"
import { Idempotent } from "../Idempotent.ts"
import { commandAnswers, NewCommand } from "../NewCommand.ts"
import { Statuses } from "../Statuses.ts"

/** The largest file that the API writes, in bytes. */
export const fileLimit = 50 * 1024 * 1024

const errors = [Statuses.AccountForbidden, Statuses.SandboxNotFound] as const
const runningErrors = [...errors, Statuses.SandboxNotRunning, Statuses.SandboxUnavailable] as const

const params = { sandboxId: field(Schema.String, "The id of the sandbox.") }

const one = { params, query: forAccount }

const SandboxResponse = Schema.Struct({ ...success, sandbox: SandboxBody })

const filePath = field(SandboxPath, "The path: absolute, or relative to the sandbox's home directory.")

const File = Schema.Struct({
  path: field(SandboxFile.fields.path, "The path, relative to the listed directory."),
  type: field(SandboxFile.fields.type, "What the entry is."),
  size: field(SandboxFile.fields.size, "The size in bytes."),
  mode: field(SandboxFile.fields.mode, "The permissions as four octal digits. Without meaning for a link."),
  target: field(SandboxFile.fields.target, "The target of a link, as it is written. Absent for other types."),
  modifiedAt: field(Time, "When it was last modified, as an ISO 8601 string.")
})

/** One sandbox: its commands, files, snapshots and life. */
export class SandboxOperationsApi extends HttpApiGroup.make("sandbox")
  .add(
    HttpApiEndpoint.get("get", "/:sandboxId", { ...one, success: SandboxResponse, error: errors }).annotateMerge(
      OpenApi.annotations({ summary: "Get a sandbox", description: "Never wakes the sandbox." })
    ),
    HttpApiEndpoint.post("run", "/:sandboxId/commands", {
      ...one,
      payload: NewCommand,
      success: commandAnswers,
      error: runningErrors
    })
      .middleware(Idempotent)
      .annotateMerge(
        OpenApi.annotations({
          summary: "Run a command in a sandbox",
          description:
            "By default the response is 202 with the id of the run at once. A command that exits with a code other than 0 is a completed run."
        })
      ),
    HttpApiEndpoint.get("files", "/:sandboxId/files", {
      params,
      query: {
        ...forAccount,
        ...pageOfFiles("files", String(listingLimits.entries), `1, or ${listingLimits.depth} if \`recursive\` is true`),
        path: field(
          Schema.optionalKey(SandboxPath),
          "The directory: absolute, or relative to the home directory. Default: the home directory."
        ),
        recursive: field(
          Schema.optionalKey(
            Schema.Literals(["true", "false", "1", "0"]).annotate({ message: "must be true or false" })
          ),
          "Whether to list directories below it. Default: false."
        )
      },
      success: Schema.Struct({
        ...success,
        files: field(Schema.Array(File), "The entries, ordered by path."),
        ...nextPageOfFiles("files")
      }),
      error: [...runningErrors, Statuses.FileNotFound, Statuses.FileRefused]
    }).annotateMerge(
      OpenApi.annotations({
        summary: "List a directory of a sandbox",
        description: `Lists at most ${listingLimits.entries} entries a page; a page may end earlier if names are long. 502 with the code \`sandbox_no_answer\` or \`sandbox_bad_answer\` means that the sandbox did not answer in time, or not with a listing.`
      })
    ),
    HttpApiEndpoint.get("readFile", "/:sandboxId/file", {
      params,
      query: { ...forAccount, path: filePath },
      success: HttpApiSchema.StreamUint8Array(),
      error: [...runningErrors, Statuses.FileNotFound, Statuses.FileRefused]
    }).annotateMerge(
      OpenApi.annotations({ summary: "Read a file of a sandbox", description: "Streams the bytes. Follows links." })
    ),
    HttpApiEndpoint.put("writeFile", "/:sandboxId/file", {
      params,
      query: {
        ...forAccount,
        path: filePath,
        mode: field(
          Schema.optionalKey(FileMode),
          "The permissions in octal, such as 644. Default: those of the existing file, or the sandbox's default for a new one."
        )
      },
      payload: HttpApiSchema.StreamUint8Array({ maxBytes: fileLimit }),
      success: Schema.Struct({
        ...success,
        path: field(SandboxPath, "The path of the request."),
        size: field(Schema.Int, "The size of the written file in bytes.")
      }),
      error: [...runningErrors, Statuses.FileNotFound, Statuses.FileRefused]
    })
      .annotate(BodyLimit, fileLimit)
      .annotateMerge(
        OpenApi.annotations({
          summary: "Write a file of a sandbox",
          description: "The body is the content, at most 50 MiB. The file is replaced as a whole or not at all."
        })
      ),
    HttpApiEndpoint.post("snapshot", "/:sandboxId/snapshot", {
      ...one,
      payload: Schema.Struct({
        expiresInMs: optional(
          milliseconds(Duration.days(365)),
          "How long to keep the snapshot, in milliseconds, 1 to 31536000000 (365 days). Default: 604800000 (7 days)."
        )
      }),
      success: Schema.Struct({
        ...success,
        snapshotId: field(SnapshotId, "The id of the snapshot."),
        expiresAt: field(Time, "When it expires, as an ISO 8601 string."),
        stopped: field(Schema.Boolean, "Whether the provider stopped the sandbox to take it.")
      }),
      error: [...errors, Statuses.SandboxUnavailable, Statuses.SnapshotInProgress]
    })
      .middleware(Idempotent)
      .annotateMerge(
        OpenApi.annotations({
          summary: "Take a snapshot of a sandbox",
          description: "Keeps the sandbox's files as they are now, for new sandboxes to boot from."
        })
      ),
    HttpApiEndpoint.post("fork", "/:sandboxId/fork", {
      ...one,
      success: SandboxResponse,
      error: [
        ...errors,
        Statuses.SandboxNotCreated,
        Statuses.SandboxQuotaReached,
        Statuses.SandboxUnavailable,
        Statuses.SnapshotInProgress
      ]
    })
      .middleware(Idempotent)
      .annotateMerge(
        OpenApi.annotations({
          summary: "Fork a sandbox",
          description: "Creates another running sandbox with the same files."
        })
      ),
    HttpApiEndpoint.post("extend", "/:sandboxId/extend", {
      ...one,
      payload: Schema.Struct({
        ms: field(
          milliseconds(Duration.hours(24)),
          "How much longer the sandbox runs, in milliseconds, 1 to 86400000 (24 hours)."
        )
      }),
      success: SandboxResponse,
      error: runningErrors
    }).annotateMerge(
      OpenApi.annotations({
        summary: "Extend the life of a sandbox",
        description: "Moves the time at which the provider stops the sandbox. The provider may have a maximum."
      })
    ),
    HttpApiEndpoint.delete("remove", "/:sandboxId", {
      ...one,
      success: Schema.Struct(success),
      error: [...errors, Statuses.SandboxUnavailable]
    }).annotateMerge(
      OpenApi.annotations({
        summary: "Delete a sandbox",
        description: "Stops the sandbox and deletes its files. May be repeated."
      })
    )
  )
  .prefix("/api/sandboxes")
  .annotate(OpenApi.Title, "One sandbox") {}
