/**
 * Reads the events of an account. The store of the changed row writes each event in the transaction of the change: there is
 * no event without its change and no change without its event. A NUL in a text may be read back as U+FFFD.
 */
import { Context, type DateTime, type Effect } from "effect"
import type { AccountScope } from "../identity/AccountScope.ts"
import type { EventCursor, SandboxEvent } from "./SandboxEvent.ts"

/** An event, and the cursor that continues after it. */
export interface EventWithCursor {
  readonly event: SandboxEvent
  readonly cursor: EventCursor
}

export class EventStore extends Context.Service<
  EventStore,
  {
    /**
     * Up to `limit` events of the scope's account after `after`, in the order they happened. Starts at the oldest stored
     * event if `after` is null. A reader that continues from the last cursor misses no event, even with concurrent writers.
     */
    readonly read: (
      scope: AccountScope,
      after: EventCursor | null,
      limit: number
    ) => Effect.Effect<ReadonlyArray<EventWithCursor>>
    /** A cursor after which a reader gets exactly the events that happen from now on. */
    readonly latest: (scope: AccountScope) => Effect.Effect<EventCursor>
    /** Deletes the events of all accounts from before `before`. */
    readonly sweep: (before: DateTime.Utc) => Effect.Effect<void>
  }
>()("domain/sandbox/EventStore") {}
