/** What happens to an account's sandboxes, as server-sent events. */
import type { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import type { EventStore, EventWithCursor } from "@castellan/domain/sandbox/EventStore.ts"
import { EventCursor } from "@castellan/domain/sandbox/SandboxEvent.ts"
import { DateTime, Effect, Option, Schema, Stream } from "effect"
import type { EventBody } from "../api/groups/Events.ts"
import * as ServerSent from "./ServerSent.ts"

/** How long a reader waits who has read everything there is. */
const pause = "1 second"

/** Events that are read at once. */
const batch = 500

const isCursor = Schema.is(EventCursor)

/** Where to go on after the event of that id; none where there is none, or where no stream of ours gave it. */
export const cursorAfter = (lastEventId: string | undefined): EventCursor | null =>
  isCursor(lastEventId) ? lastEventId : null

/**
 * What is said where there is no more to tell for now. It has no data, so that browsers show it to nobody; but they keep
 * its id, and whoever loses the connection before the first event misses none.
 */
const writeNow = (cursor: EventCursor | null): string => ServerSent.writeEmpty("now", cursor ?? undefined)

const writeEvent = ({ cursor, event }: EventWithCursor): string =>
  ServerSent.write(
    event.type,
    {
      type: event.type,
      sandboxId: event.sandbox,
      sessionId: event.session,
      reason: event.reason,
      at: DateTime.formatIso(event.at)
    } satisfies EventBody,
    cursor
  )

interface Place {
  readonly cursor: EventCursor | null
  /** Whether it was said already that there are no more for now. */
  readonly caughtUp: boolean
}

/** The events after a cursor, a word where there are no more, and those to come. */
const follow = (store: EventStore["Service"], scope: AccountScope, after: EventCursor | null) =>
  Stream.paginate({ cursor: after, caughtUp: false }, ({ caughtUp, cursor }: Place) =>
    Effect.gen(function* () {
      const events = yield* store.read(scope, cursor, batch)
      const last = events.at(-1)
      if (last !== undefined) return [events.map(writeEvent), Option.some({ cursor: last.cursor, caughtUp })] as const
      if (caughtUp) yield* Effect.sleep(pause)
      return [caughtUp ? [] : [writeNow(cursor)], Option.some({ cursor, caughtUp: true })] as const
    })
  )

export const respond = (
  store: EventStore["Service"],
  scope: AccountScope,
  after: EventCursor | null,
  lost: Effect.Effect<never, ServerSent.AccessLost>
) =>
  ServerSent.respond(follow(store, scope, after), {
    what: "what happens to sandboxes",
    resumes: true,
    broken: ServerSent.writeError("The events can't be read any further", "events_broken"),
    lost
  })
