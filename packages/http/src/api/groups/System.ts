import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"

import { Statuses } from "../Statuses.ts"

/** Whether the server lives and whether it can work; open to everyone. */
export class SystemApi extends HttpApiGroup.make("system")
  .add(
    HttpApiEndpoint.get("health", "/health", {
      success: Schema.Struct({ status: Schema.Literal("ok") })
    }).annotate(OpenApi.Summary, "The process answers"),
    HttpApiEndpoint.get("ready", "/ready", {
      success: Schema.Struct({
        status: Schema.Literal("ready"),
        provider: Schema.Struct({
          name: Schema.String,
          isolation: Schema.String,
          /** What keeps sandboxes apart, where that depends on the host. */
          protections: Schema.Array(
            Schema.Struct({ name: Schema.String, holds: Schema.Boolean, reason: Schema.optionalKey(Schema.String) })
          )
        })
      }),
      error: [Statuses.NotReady]
    }).annotate(OpenApi.Summary, "The store and the queue answer")
  )
  .annotate(OpenApi.Title, "System") {}
