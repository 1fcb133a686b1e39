import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { field } from "../Fields.ts"
import { Statuses } from "../Statuses.ts"

const Protection = Schema.Struct({
  name: field(Schema.String, "The protection, such as `seccomp`."),
  holds: field(Schema.Boolean, "Whether it is in force."),
  reason: field(Schema.optionalKey(Schema.String), "Why it is not in force. Absent if it is.")
})

/** Liveness and readiness of the server. */
export class SystemApi extends HttpApiGroup.make("system")
  .add(
    HttpApiEndpoint.get("health", "/health", {
      success: Schema.Struct({ status: field(Schema.Literal("ok"), "Always `ok`.") })
    }).annotateMerge(
      OpenApi.annotations({ summary: "Liveness", description: "Answers while the process runs. Public." })
    ),
    HttpApiEndpoint.get("ready", "/ready", {
      success: Schema.Struct({
        status: field(Schema.Literal("ready"), "Always `ready`."),
        provider: field(
          Schema.Struct({
            name: field(Schema.String, "The name of the provider, such as `local` or `vercel`."),
            isolation: field(Schema.String, "How the provider isolates sandboxes."),
            protections: field(Schema.Array(Protection), "Protections of the isolation that depend on the host.")
          }),
          "The sandbox provider of this server."
        )
      }),
      error: [Statuses.NotReady]
    }).annotateMerge(
      OpenApi.annotations({
        summary: "Readiness",
        description:
          "Succeeds if the store and the task runner answer within 2 s and the server is not shutting down. Public."
      })
    )
  )
  .annotate(OpenApi.Title, "System") {}
