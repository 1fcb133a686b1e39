import { atOnce } from "@castellan/domain/app/project/PackageName.ts"
import { limits } from "@castellan/domain/app/guest/listFiles.ts"
import { WrittenPath } from "@castellan/domain/app/project/ProjectPath.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { BodyLimit } from "../BodyLimit.ts"
import { absent, field, nextPageOfFiles, optional, pageOfFiles } from "../Fields.ts"
import { Idempotent } from "../Idempotent.ts"
import { allowNul, Lenient } from "../KnownFields.ts"
import { Statuses } from "../Statuses.ts"

/** The largest change of a project, in bytes. */
const changeLimit = 10 * 1024 * 1024

/** Maximum files of a change of a project. */
const filesAtOnce = 1000

const success = { success: field(Schema.Literal(true), "Always true.") }

const appId = "The id of the app. Default: the caller's active app; null and empty count as absent."
const app = { sandboxId: optional(Schema.String, appId) }
const appInQuery = { sandboxId: field(Schema.optionalKey(Schema.String), appId) }

const AppLocation = Schema.Struct({
  ...success,
  sandboxId: field(SandboxName, "The id of the app, which is its sandbox."),
  url: field(Schema.String, "The URL of the app for a browser.")
})

/** The status of an app. */
export const AppStatus = Schema.Struct({
  ...AppLocation.fields,
  isAlive: field(Schema.Boolean, "Whether its sandbox runs.")
})

const packages = Schema.Array(Schema.String).annotate({ message: "Packages array is required" })

const packageNames = `npm packages, at most ${atOnce}: names, with \`@\` and a version, range or tag if one is wanted.`

const filesMessage = `must have 1 to ${filesAtOnce} files`

const Check = Schema.Struct({
  name: field(
    Schema.Literals(["reachable", "dev_server", "type_check", "missing_imports", "disk_space"]),
    "The check."
  ),
  ok: field(Schema.Boolean, "Whether it passed."),
  detail: field(Schema.String, "What it found."),
  durationMs: field(Schema.Int, "How long it took, in milliseconds.")
})

const ChangedFile = Schema.Struct({
  path: field(
    WrittenPath,
    "The path, relative to the project. It is normalized; a path outside of the project is refused."
  ),
  content: field(allowNul(Schema.String), "The new content.")
})

/** The progress of a change; `complete` is the last. The events have no name, only data. */
export const ApplyEventBody = Schema.Union([
  Schema.Struct({
    type: field(Schema.Literal("status"), "The kind of event."),
    message: field(Schema.String, "The current step, as a sentence.")
  }),
  Schema.Struct({
    type: field(Schema.Literal("file"), "The kind of event."),
    path: field(Schema.String, "The file that was written."),
    status: field(Schema.Literal("applied"), "Always `applied`.")
  }),
  Schema.Struct({
    type: field(Schema.Literal("package"), "The kind of event."),
    name: field(Schema.String, "The package that was installed."),
    version: field(Schema.String, "Its version.")
  }),
  Schema.Struct({
    type: field(Schema.Literal("error"), "The kind of event."),
    message: field(Schema.String, "What failed, as a sentence.")
  }),
  Schema.Struct({
    type: field(Schema.Literal("complete"), "The kind of event."),
    appliedFiles: field(Schema.Array(Schema.String), "The files that were written."),
    installedPackages: field(Schema.Array(Schema.String), "The packages that were installed."),
    success: field(Schema.Boolean, "Whether everything was applied and the page compiles."),
    errors: field(Schema.Array(Schema.String), "What failed, each as a sentence.")
  })
])
export type ApplyEventBody = typeof ApplyEventBody.Type

/** An event of the stream. */
export const ApplyEvent = Schema.Struct({
  data: field(Schema.fromJsonString(ApplyEventBody), "The progress, as JSON.")
})

/** Web apps under construction. Each has a sandbox with its dev server. */
export class AppsApi extends HttpApiGroup.make("apps")
  .add(
    HttpApiEndpoint.post("create", "/sandbox/create", { success: AppLocation, error: [Statuses.AppNotCreated] })
      .middleware(Idempotent)
      .annotate(Lenient, true)
      .annotateMerge(
        OpenApi.annotations({
          summary: "Create a web app with its dev server",
          description:
            "Answers once the page does. The new app becomes the caller's active app, and the previous one ends. If the app can't be created, the previous one stays active. Concurrent requests of an account share one app."
        })
      ),
    HttpApiEndpoint.get("files", "/sandbox/files", {
      query: {
        ...appInQuery,
        ...pageOfFiles("app-files", String(limits.files), "all"),
        contents: field(
          Schema.optionalKey(Schema.Literals(["1", "0", "true", "false"]).annotate({ message: "must be 1 or 0" })),
          "Whether to include the contents of text files, at most 256 KiB each and 5 MiB in all. Default: 0."
        )
      },
      success: Schema.Struct({
        ...success,
        files: field(
          Schema.Array(Schema.String),
          "Paths relative to the project, sorted. Dependencies, build output and lock files are left out."
        ),
        contents: field(
          Schema.optionalKey(Schema.Record(Schema.String, Schema.String)),
          "The text of each file by its path. Only with `contents`."
        ),
        skipped: field(
          Schema.Array(
            Schema.Struct({
              path: field(Schema.String, "The path."),
              reason: field(Schema.String, "Why it was left out.")
            })
          ),
          "Files that are not listed, or whose contents are not included."
        ),
        ...nextPageOfFiles("app-files")
      }),
      error: [Statuses.AppNotFound, Statuses.FilesNotListed]
    })
      .annotate(Lenient, true)
      .annotateMerge(
        OpenApi.annotations({
          summary: "List the files of an app's project",
          description: "Lists the project's own files, with their contents if `contents` is 1."
        })
      ),
    HttpApiEndpoint.post("diagnose", "/sandbox/diagnostics", {
      payload: Schema.Struct(app),
      success: Schema.Struct({
        success: field(Schema.Boolean, "Whether all checks passed."),
        output: field(Schema.String, "What is wrong, as text; empty if all checks passed."),
        checks: field(Schema.Array(Check), "The checks.")
      }),
      error: [Statuses.AppNotFound]
    })
      .annotate(Lenient, true)
      .annotateMerge(
        OpenApi.annotations({
          summary: "Diagnose an app",
          description: "Checks the app's dev server, types, imports and disk space."
        })
      ),
    HttpApiEndpoint.post("kill", "/sandbox/kill", {
      payload: Schema.Struct({
        sandboxId: optional(Schema.String, "The id of the app. Default: all the caller's apps end.")
      }),
      success: Schema.Struct(success),
      error: [Statuses.AppNotTerminated]
    })
      .annotate(Lenient, true)
      .annotateMerge(
        OpenApi.annotations({
          summary: "End an app, or all of the caller's apps",
          description: "An app that does not exist, or is another account's, changes nothing and is no error."
        })
      ),
    HttpApiEndpoint.post("install", "/packages/install", {
      payload: Schema.Struct({ ...app, packages: field(absent(packages), packageNames) }),
      success: Schema.Struct({
        ...success,
        installedPackages: field(Schema.Array(Schema.String), "The names of the installed packages."),
        versions: field(Schema.Record(Schema.String, Schema.String), "The installed version of each package.")
      }),
      error: [Statuses.AppNotFound, Statuses.PackageNotFound, Statuses.PackagesNotInstalled]
    })
      .annotate(Lenient, true)
      .annotateMerge(
        OpenApi.annotations({
          summary: "Install npm packages in an app",
          description: `Installs at most ${atOnce} packages. Their install scripts do not run.`
        })
      ),
    HttpApiEndpoint.post("apply", "/apply/stream", {
      payload: Schema.Struct({
        ...app,
        files: field(
          Schema.Array(ChangedFile).check(
            Schema.isMinLength(1, { message: filesMessage }),
            Schema.isMaxLength(filesAtOnce, { message: filesMessage })
          ),
          `The files to write, 1 to ${filesAtOnce}.`
        ),
        packages: field(absent(packages), `${packageNames} Default: none.`)
      }),
      success: HttpApiSchema.StreamSse({ events: ApplyEvent }),
      error: [Statuses.AppNotFound]
    })
      .annotate(BodyLimit, changeLimit)
      .annotateMerge(
        OpenApi.annotations({
          summary: "Write files and install packages in an app, and follow the progress",
          description:
            'Streams server-sent events without names, each `{"type":…}`: `status {message}`, `file {path,status:"applied"}`, `package {name,version}`, `error {message}`, and at the end `complete {appliedFiles,installedPackages,success,errors}`. Paths are normalized (`./src/App.tsx` is `src/App.tsx`); a path outside of the project is refused before anything is written. `success` is true only if the dev server compiles the page afterwards: `errors` names each file and its problem. The change continues if the reader disconnects. The body may have at most 10 MiB.'
        })
      )
  )
  .prefix("/api")
  .annotate(OpenApi.Title, "Web apps") {}
