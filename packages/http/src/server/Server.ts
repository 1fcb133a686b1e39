/** The HTTP API as one effect from request to response, independent of the HTTP server. */
import { Effect, Layer, type Redacted } from "effect"
import { HttpRouter, HttpServer, HttpServerResponse } from "effect/http"
import { HttpApiBuilder, HttpApiScalar } from "effect/http-api"
import { Api } from "../api/Api.ts"
import * as Authenticate from "../middleware/Authenticate.ts"
import * as Pipeline from "../middleware/Pipeline.ts"
import { AccountsHandlers } from "../handlers/Accounts.ts"
import { AccountSandboxesHandlers } from "../handlers/AccountSandboxes.ts"
import { AppsHandlers } from "../handlers/Apps.ts"
import { AdminsHandlers } from "../handlers/Admins.ts"
import { ApiKeysHandlers } from "../handlers/ApiKeys.ts"
import { EventsHandlers } from "../handlers/Events.ts"
import { SandboxOperationsHandlers } from "../handlers/SandboxOperations.ts"
import { OrganizationsHandlers } from "../handlers/Organizations.ts"
import { SessionsHandlers } from "../handlers/Sessions.ts"
import { SessionSandboxHandlers } from "../handlers/SessionSandbox.ts"
import { SystemHandlers } from "../handlers/System.ts"
import { TaskRunsHandlers } from "../handlers/TaskRuns.ts"
import * as Idempotency from "../middleware/Idempotency.ts"
import * as KnownFields from "../middleware/KnownFields.ts"
import { type LimitOptions, Limits, rateLimits } from "../middleware/Limits.ts"
import { document, documentPath, pagePath } from "../api/openapi.ts"
import { PreviewBase } from "../preview/PreviewBase.ts"
import { routerConfig } from "../middleware/Routes.ts"

export interface ServerOptions {
  /** Encrypts responses that are stored for idempotency keys; the same for all servers on one store. */
  readonly secret: Redacted.Redacted<Uint8Array>
  /** Limits per account that differ from `defaultLimits`. */
  readonly limits?: Partial<LimitOptions>
  /** Base URL of web app previews, such as `https://preview.example.com`; below `localhost` if left out. */
  readonly previews?: URL
}

const routes = (options: ServerOptions) =>
  Layer.mergeAll(
    HttpApiBuilder.layer(Api).pipe(
      Layer.provide([SystemHandlers, AccountsHandlers, ApiKeysHandlers, OrganizationsHandlers, AdminsHandlers]),
      Layer.provide([AccountSandboxesHandlers, SandboxOperationsHandlers, TaskRunsHandlers]),
      Layer.provide([SessionsHandlers, SessionSandboxHandlers, AppsHandlers, EventsHandlers]),
      Layer.provide(Layer.succeed(PreviewBase, options.previews)),
      Layer.provide([Authenticate.layer, KnownFields.layer, Idempotency.layer(options), rateLimits]),
      Layer.provide(Limits.layer(options.limits ?? {}))
    ),
    HttpRouter.add("GET", documentPath, Effect.succeed(HttpServerResponse.jsonUnsafe(document))),
    HttpApiScalar.layer(Api, { path: pagePath })
  ).pipe(
    Layer.provide(HttpServer.layerServices),
    Layer.provideMerge(HttpRouter.layer),
    Layer.provide(Layer.succeed(HttpRouter.RouterConfig, routerConfig))
  )

/** Builds the application over the use cases. */
export const make = (options: ServerOptions) =>
  Effect.gen(function* () {
    const services = yield* Layer.build(routes(options))
    const router = yield* Effect.provide(HttpRouter.HttpRouter, services)
    return Pipeline.wrap(router.asHttpEffect())
  })
