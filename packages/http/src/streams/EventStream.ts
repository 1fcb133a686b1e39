/** State changes of an account's sandboxes and sessions as server-sent events. */
import type { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import type { EventStore, EventWithCursor } from "@castellan/domain/sandbox/EventStore.ts"
import { EventCursor } from "@castellan/domain/sandbox/SandboxEvent.ts"
import { DateTime, Effect, Option, Schema, Stream } from "effect"
import { AccountEvent } from "../api/groups/Events.ts"
import { writerOf } from "../api/StreamEvents.ts"
import * as ServerSent from "./ServerSent.ts"

/** How often the store is asked for new events, once all stored ones were sent. */
const pollInterval = "1 second"

/** Events that are read from the store at once. */
const batchSize = 500

const isCursor = Schema.is(EventCursor)

/** The cursor to resume after; null if the id is absent or malformed. */
export const cursorAfter = (lastEventId: string | undefined): EventCursor | null =>
  isCursor(lastEventId) ? lastEventId : null

const write = writerOf(AccountEvent)

/**
 * Marks the end of the stored events. Browsers keep its id, so a reader that reconnects before the next event misses
 * none.
 */
const writeNow = (cursor: EventCursor | null): string =>
  write({ event: "now", data: "", ...(cursor === null ? {} : { id: cursor }) })

const writeEvent = ({ cursor, event }: EventWithCursor): string =>
  write({
    event: event.type,
    id: cursor,
    data: {
      type: event.type,
      sandboxId: event.sandbox,
      sessionId: event.session,
      code: event.code,
      reason: event.reason,
      at: DateTime.formatIso(event.at)
    }
  })

interface Position {
  readonly cursor: EventCursor | null
  /** Whether the event `now` was sent. */
  readonly caughtUp: boolean
}

/** The events after a cursor, `now` once there are no more, and then new events. */
const follow = (store: EventStore["Service"], scope: AccountScope, after: EventCursor | null) =>
  Stream.paginate({ cursor: after, caughtUp: false }, ({ caughtUp, cursor }: Position) =>
    Effect.gen(function* () {
      const events = yield* store.read(scope, cursor, batchSize)
      const last = events.at(-1)
      if (last !== undefined) return [events.map(writeEvent), Option.some({ cursor: last.cursor, caughtUp })] as const
      if (caughtUp) yield* Effect.sleep(pollInterval)
      return [caughtUp ? [] : [writeNow(cursor)], Option.some({ cursor, caughtUp: true })] as const
    })
  )

/** The response. It ends when `lost` fails. */
export const respond = (
  store: EventStore["Service"],
  scope: AccountScope,
  after: EventCursor | null,
  lost: Effect.Effect<never, ServerSent.AccessLost>
) =>
  ServerSent.respond(follow(store, scope, after), {
    what: "state changes of sandboxes and sessions",
    resumes: true,
    broken: ServerSent.writeError("The events can't be read any further", "events_broken"),
    lost
  })
