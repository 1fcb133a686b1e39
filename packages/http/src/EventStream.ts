/** What happens to an account's sandboxes, as server-sent events. */
import type { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import type { EventStore, PlacedEvent } from "@castellan/domain/sandbox/EventStore.ts"
import { EventCursor } from "@castellan/domain/sandbox/SandboxEvent.ts"
import { DateTime, Effect, Option, Schema, Stream } from "effect"
import * as ServerSent from "./ServerSent.ts"

/** How long a reader waits who has read everything there is. */
const pause = "1 second"

/** Events that are read at once. */
const batch = 500

const isCursor = Schema.is(EventCursor)

/** Where to go on after the event of that id; none where there is none, or where no stream of ours gave it. */
export const cursorAfter = (lastEventId: string | undefined): EventCursor | null =>
  isCursor(lastEventId) ? lastEventId : null

const writeEvent = ({ cursor, event }: PlacedEvent): string =>
  ServerSent.write(
    event.type,
    {
      type: event.type,
      sandboxId: event.sandbox,
      sessionId: event.session,
      reason: event.reason,
      at: DateTime.formatIso(event.at)
    },
    cursor
  )

/** The events after a cursor, and those to come. */
const follow = (store: EventStore["Service"], scope: AccountScope, after: EventCursor | null) =>
  Stream.paginate(after, (cursor) =>
    Effect.gen(function* () {
      const events = yield* store.read(scope, cursor, batch)
      if (events.length === 0) yield* Effect.sleep(pause)
      return [events, Option.some(events.at(-1)?.cursor ?? cursor)] as const
    })
  )

export const respond = (
  store: EventStore["Service"],
  scope: AccountScope,
  after: EventCursor | null,
  lost: Effect.Effect<void>
) =>
  ServerSent.respond(Stream.map(follow(store, scope, after), writeEvent), {
    what: "what happens to sandboxes",
    broken: { error: "The events can't be read any further", code: "events_broken" },
    lost
  })
