import { ChangeCode } from "@castellan/domain/ChangeReason.ts"
import { SandboxEventType } from "@castellan/domain/sandbox/SandboxEvent.ts"
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { field, forAccount, lastEventId } from "../Fields.ts"
import { Statuses } from "../Statuses.ts"
import { emptyEvent, errorEvent, event } from "../StreamEvents.ts"

/** A state change of a sandbox or a session. */
export const EventBody = Schema.Struct({
  type: field(SandboxEventType, "What happened. The same as the name of the event."),
  sandboxId: field(Schema.NullOr(Schema.String), "The sandbox; null for a session that has none yet."),
  sessionId: field(Schema.NullOr(Schema.String), "The session; null for a sandbox without one."),
  code: field(
    Schema.NullOr(ChangeCode),
    "Why it happened, for programs; null for an event of a server that gave no code. Codes may be added."
  ),
  reason: field(Schema.NullOr(Schema.String), "Why it happened, as a sentence; null if `code` says everything."),
  at: field(Schema.String, "When it happened, as an ISO 8601 string.")
})
export type EventBody = typeof EventBody.Type

const stateChange = (type: SandboxEventType) => event(type, EventBody)

/** The events of the stream. */
export const AccountEvent = Schema.Union([
  ...SandboxEventType.literals.map(stateChange),
  // The stream has no more events for now.
  emptyEvent("now"),
  errorEvent
])

/** State changes of an account's sandboxes and sessions. */
export class EventsApi extends HttpApiGroup.make("events")
  .add(
    HttpApiEndpoint.get("follow", "/", {
      query: {
        ...forAccount,
        from: field(
          Schema.optionalKey(Schema.Literals(["now", "start"]).annotate({ message: "must be now or start" })),
          "Where the stream begins without `Last-Event-ID`: `now`, or `start` for the oldest stored event. Default: now."
        )
      },
      headers: lastEventId(/^(\d{1,18})?$/),
      success: HttpApiSchema.StreamSse({ events: AccountEvent }),
      error: [Statuses.AccountForbidden]
    }).annotateMerge(
      OpenApi.annotations({
        summary: "Follow state changes of sandboxes and sessions",
        description:
          "Streams server-sent events. Each is named by its type; its data is JSON with `type`, `sandboxId`, `sessionId`, `code`, `reason` and `at`. An event `now` without data comes once, when there are no more events for the moment; its id can be resumed after like any other. Each event is delivered at least once, the events of one sandbox in order."
      })
    )
  )
  .prefix("/api/events")
  .annotate(OpenApi.Title, "Events") {}
