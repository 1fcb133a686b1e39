import type { SandboxEventType } from "@castellan/domain/sandbox/SandboxEvent.ts"
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { forAccount, lastEventId } from "../Fields.ts"

import { Statuses } from "../Statuses.ts"

/** What an event says, as JSON in its `data`. */
export interface EventBody {
  readonly type: SandboxEventType
  /** Null for a session that has none yet. */
  readonly sandboxId: string | null
  /** Null for a sandbox of the account's own. */
  readonly sessionId: string | null
  /** Why, in words for its owner; null where it is what was asked for. */
  readonly reason: string | null
  readonly at: string
}

/** What happened to an account's sandboxes and sessions. */
export class EventsApi extends HttpApiGroup.make("events")
  .add(
    HttpApiEndpoint.get("follow", "/", {
      query: {
        ...forAccount,
        from: Schema.optionalKey(Schema.Literals(["now", "start"]).annotate({ message: "must be now or start" }))
      },
      headers: { "last-event-id": Schema.optionalKey(lastEventId(/^(\d{1,18})?$/)) },
      success: HttpApiSchema.StreamSse({
        events: Schema.Struct({ event: Schema.String, id: Schema.String, data: Schema.String })
      }),
      error: [Statuses.AccountForbidden]
    }).annotateMerge(
      OpenApi.annotations({
        summary: "Follow what happens to sandboxes and sessions",
        description:
          'Server-sent events, each named by its type, with `{"type","sandboxId","sessionId","reason","at"}`: after `Last-Event-ID`, or from now on, or with `from=start` from the oldest that is kept. An event `now` without data comes once, where there are no more for the moment; its id is a place to go on from, like any other. Each comes at least once; those of one sandbox in their order.'
      })
    )
  )
  .prefix("/api/events")
  .annotate(OpenApi.Title, "Events") {}
