import { atOnce } from "@castellan/domain/app/project/PackageName.ts"
import { limits } from "@castellan/domain/app/guest/listFiles.ts"
import { WrittenPath } from "@castellan/domain/app/project/ProjectPath.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { BodyLimit } from "../BodyLimit.ts"
import { absent, pageOfFiles, pathCursorOf } from "../Fields.ts"
import { Idempotent } from "../Idempotent.ts"
import { allowNul, Lenient } from "../KnownFields.ts"
import { Statuses } from "../Statuses.ts"

/** Bytes of a change of a project. */
export const changeLimit = 10 * 1024 * 1024

/** Files of a change of a project. */
const filesAtOnce = 1000

const success = Schema.Literal(true)

/** The app that is meant; the active one if it is left out, null or empty. */
const meant = { sandboxId: absent(Schema.String) }
const meantInQuery = { sandboxId: Schema.optionalKey(Schema.String) }

const Where = Schema.Struct({
  success,
  sandboxId: SandboxName,
  /** Where a browser sees it. */
  url: Schema.String
})

/** What is known of an app. */
export const AppStatus = Schema.Struct({
  ...Where.fields,
  /** Whether its sandbox runs now. */
  isAlive: Schema.Boolean
})

const packages = absent(Schema.Array(Schema.String).annotate({ message: "Packages array is required" }))

const filesMessage = `must have 1 to ${filesAtOnce} files`

/** Web apps under construction, each with its dev server in a sandbox of its own. */
export class AppsApi extends HttpApiGroup.make("apps")
  .add(
    HttpApiEndpoint.post("create", "/sandbox/create", { success: Where, error: [Statuses.AppNotCreated] })
      .middleware(Idempotent)
      .annotate(Lenient, true)
      .annotateMerge(
        OpenApi.annotations({
          summary: "A new web app with its dev server",
          description:
            "Answers once the page does. It is the active app of the caller then, and the one before ends; where none can be made, that one stays as it is."
        })
      ),
    HttpApiEndpoint.get("files", "/sandbox/files", {
      query: {
        ...meantInQuery,
        ...pageOfFiles("app-files", `at most ${limits.files}`),
        contents: Schema.optionalKey(
          Schema.Literals(["1", "0", "true", "false"]).annotate({ message: "must be 1 or 0" })
        )
      },
      success: Schema.Struct({
        success,
        /** Relative to the project, in order; without what is installed, built or locked. */
        files: Schema.Array(Schema.String),
        contents: Schema.optionalKey(Schema.Record(Schema.String, Schema.String)),
        /** Files whose content is not there, or that are not named, and why. */
        skipped: Schema.Array(Schema.Struct({ path: Schema.String, reason: Schema.String })),
        /** Continues the list; absent on its last page. */
        next_cursor: Schema.optionalKey(pathCursorOf("app-files"))
      }),
      error: [Statuses.AppNotFound, Statuses.FilesNotListed]
    })
      .annotate(OpenApi.Summary, "The files of an app's project")
      .annotate(Lenient, true),
    HttpApiEndpoint.post("diagnose", "/sandbox/diagnostics", {
      payload: Schema.Struct(meant),
      success: Schema.Struct({
        success: Schema.Boolean,
        /** What is wrong; empty where nothing is. */
        output: Schema.String,
        checks: Schema.Array(
          Schema.Struct({
            name: Schema.Literals(["reachable", "dev_server", "type_check", "missing_imports", "disk_space"]),
            ok: Schema.Boolean,
            detail: Schema.String,
            durationMs: Schema.Int
          })
        )
      }),
      error: [Statuses.AppNotFound]
    })
      .annotate(OpenApi.Summary, "What is wrong with an app")
      .annotate(Lenient, true),
    HttpApiEndpoint.post("kill", "/sandbox/kill", {
      payload: Schema.Struct(meant),
      success: Schema.Struct({ success }),
      error: [Statuses.AppNotTerminated]
    })
      .annotate(OpenApi.Summary, "End an app, or all of the caller's")
      .annotate(Lenient, true),
    HttpApiEndpoint.post("install", "/packages/install", {
      payload: Schema.Struct({ ...meant, packages }),
      success: Schema.Struct({
        success,
        installedPackages: Schema.Array(Schema.String),
        /** Which version of each is there now. */
        versions: Schema.Record(Schema.String, Schema.String)
      }),
      error: [Statuses.AppNotFound, Statuses.PackageNotFound, Statuses.PackagesNotInstalled]
    })
      .annotate(Lenient, true)
      .annotateMerge(
        OpenApi.annotations({
          summary: "Install npm packages in an app",
          description: `At most ${atOnce} by name, with a version, range or tag after \`@\` if one is meant. Their scripts are not run.`
        })
      ),
    HttpApiEndpoint.post("apply", "/apply/stream", {
      payload: Schema.Struct({
        ...meant,
        files: Schema.Array(Schema.Struct({ path: WrittenPath, content: allowNul(Schema.String) })).check(
          Schema.isMinLength(1, { message: filesMessage }),
          Schema.isMaxLength(filesAtOnce, { message: filesMessage })
        ),
        packages
      }),
      success: HttpApiSchema.StreamSse({ events: Schema.Struct({ data: Schema.String }) }),
      error: [Statuses.AppNotFound]
    })
      .annotate(BodyLimit, changeLimit)
      .annotateMerge(
        OpenApi.annotations({
          summary: "Bring files and packages into an app, and follow it",
          description:
            'Server-sent events without names, each `{"type":…}`: `status {message}`, `file {path,status:"applied"}`, `package {name,version}`, `error {message}`, and at the end `complete {appliedFiles,installedPackages,success,errors}`. Paths are normalised (`./src/App.tsx` is `src/App.tsx`); one that leaves the project is refused before anything is written. `success` is true only if the dev server compiles the page afterwards: `errors` names each file and what is wrong with it. It goes on if the reader leaves.'
        })
      )
  )
  .prefix("/api")
  .annotate(OpenApi.Title, "Web apps") {}
