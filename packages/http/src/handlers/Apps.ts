import { AppFiles } from "@castellan/domain/app/AppFiles.ts"
import { AppSandboxes } from "@castellan/domain/app/AppSandboxes.ts"
import type { AppSandbox } from "@castellan/domain/app/AppSandbox.ts"
import { atOnce, PackageName } from "@castellan/domain/app/project/PackageName.ts"
import { Access } from "@castellan/domain/identity/Access.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import type { CurrentCredential } from "@castellan/domain/identity/Credential.ts"
import type { CurrentActor } from "@castellan/domain/identity/CurrentActor.ts"
import { Effect, Option, Schema } from "effect"
import { HttpServerRequest } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { Api } from "../api/Api.ts"
import { RequestNonce } from "../api/Idempotent.ts"
import { AppNotTerminated, AppStatusUnknown, RequestRefused } from "../api/Statuses.ts"
import * as ApplyStream from "../streams/ApplyStream.ts"
import { Limits } from "../middleware/Limits.ts"
import { PreviewBase } from "../preview/PreviewBase.ts"
import { previewUrl } from "../preview/PreviewHost.ts"

const success = true as const

const isPackageName = Schema.is(PackageName)

/** The id of the requested app; none for the active app. */
const requestedApp = (sandboxId: string | null | undefined) =>
  Option.filter(Option.fromNullishOr(sandboxId), (id) => id !== "")

/** The requested packages without duplicates. */
const packagesIn = Effect.fnUntraced(function* (given: ReadonlyArray<string>) {
  const packages = [...new Set(given)]
  if (packages.length > atOnce)
    return yield* new RequestRefused({ say: `At most ${atOnce} packages at once`, fields: ["packages"] })
  return packages.every(isPackageName)
    ? packages
    : yield* new RequestRefused({ say: "Invalid package name", fields: ["packages"] })
})

/** The id and URL of the app. The URL is below the configured preview address, or the host of the request. */
export const locationOf = Effect.fnUntraced(function* ({ name, port }: AppSandbox) {
  const { headers } = yield* HttpServerRequest.HttpServerRequest
  return { success, sandboxId: name, url: previewUrl(yield* PreviewBase, headers["host"], name, port) }
})

/** The status of an app of the caller, for `GET /api/sandbox/status`, which also reports sessions. */
export const statusOf = Effect.fnUntraced(function* (apps: AppSandboxes["Service"], sandboxId: string | undefined) {
  const app = yield* apps.find(yield* AccountScope.own, requestedApp(sandboxId))
  const isAlive = yield* Effect.mapError(apps.isAlive(app), (cause) => new AppStatusUnknown({ cause }))
  return { ...(yield* locationOf(app)), isAlive }
})

export const AppsHandlers = HttpApiBuilder.group(
  Api,
  "apps",
  Effect.fn(function* (handlers) {
    const apps = yield* AppSandboxes
    const projects = yield* AppFiles
    const limits = yield* Limits
    const { untilLost } = yield* Access

    const findApp = Effect.fnUntraced(function* (sandboxId: string | null | undefined) {
      return yield* apps.find(yield* AccountScope.own, requestedApp(sandboxId))
    })

    return handlers.handleAll({
      create: Effect.fnUntraced(function* () {
        const scope = yield* AccountScope.own
        yield* limits.create(scope)
        return yield* locationOf(yield* apps.create(scope, yield* RequestNonce))
      }),
      files: Effect.fnUntraced(function* ({ query: { contents = "0", cursor: after, depth, limit, sandboxId } }) {
        const app = yield* findApp(sandboxId)
        const wanted = { contents: contents === "1" || contents === "true", after, depth, limit }
        const { next, ...listed } = yield* projects.files(app, wanted)
        return { success, ...listed, ...(next === null ? {} : { next_cursor: next }) }
      }),
      diagnose: Effect.fnUntraced(function* ({ payload }) {
        return yield* projects.diagnose(yield* findApp(payload.sandboxId))
      }),
      kill: Effect.fnUntraced(function* ({ payload }) {
        const scope = yield* AccountScope.own
        yield* apps
          .terminate(scope, requestedApp(payload.sandboxId))
          .pipe(Effect.mapError((cause) => new AppNotTerminated({ cause })))
        return { success }
      }),
      install: Effect.fnUntraced(function* ({ payload }) {
        if (!payload.packages?.length)
          return yield* new RequestRefused({ say: "Packages array is required", fields: ["packages"] })
        const packages = yield* packagesIn(payload.packages)
        const versions = yield* projects.install(yield* findApp(payload.sandboxId), packages)
        return { success, installedPackages: Object.keys(versions), versions }
      }),
      apply: Effect.fnUntraced(function* ({ payload: { files, packages, sandboxId } }) {
        yield* limits.stream
        const change = { files, packages: yield* packagesIn(packages ?? []) }
        const events = projects.apply(yield* findApp(sandboxId), change)
        const scope = yield* AccountScope.own
        return ApplyStream.respond(
          events,
          Effect.provide(untilLost(scope), yield* Effect.context<CurrentActor | CurrentCredential>())
        )
      })
    })
  })
)
