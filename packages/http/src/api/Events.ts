import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { Authenticated } from "./Authenticated.ts"
import { forAccount } from "./Fields.ts"
import { Statuses } from "./Statuses.ts"

/** What happened to an account's sandboxes and sessions. */
export class EventsApi extends HttpApiGroup.make("events")
  .add(
    HttpApiEndpoint.get("follow", "/", {
      query: { ...forAccount, from: Schema.optionalKey(Schema.Literals(["now", "start"])) },
      headers: { "last-event-id": Schema.optionalKey(Schema.String) },
      success: HttpApiSchema.StreamSse({
        events: Schema.Struct({ event: Schema.String, id: Schema.String, data: Schema.String })
      }),
      error: [Statuses.AccountHidden]
    }).annotateMerge(
      OpenApi.annotations({
        summary: "Follow what happens to sandboxes and sessions",
        description:
          'Server-sent events, each named by its type, with `{"type","sandboxId","sessionId","reason","at"}`: after `Last-Event-ID`, or from now on, or with `from=start` from the oldest that is kept. Each comes at least once; those of one sandbox in their order.'
      })
    )
  )
  .middleware(Authenticated)
  .prefix("/api/events")
  .annotate(OpenApi.Title, "Events") {}
