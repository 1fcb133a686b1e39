/**
 * What happened to sandboxes, kept for its owners to read. Events are written by the stores of what they are about, in
 * the transaction of the change: none without its change, no change without one. A NUL in a text may come back as U+FFFD.
 */
import { Context, type DateTime, type Effect } from "effect"
import type { AccountScope } from "../identity/AccountScope.ts"
import type { EventCursor, SandboxEvent } from "./SandboxEvent.ts"

/** An event, and where to go on after it. */
export interface EventWithCursor {
  readonly event: SandboxEvent
  readonly cursor: EventCursor
}

export class EventStore extends Context.Service<
  EventStore,
  {
    /**
     * The events of the scope's account after `after`, in the order they happened, `limit` at most; from the oldest that
     * is kept if `after` is null. Whoever reads on from the last cursor misses none, however many write at once.
     */
    readonly read: (
      scope: AccountScope,
      after: EventCursor | null,
      limit: number
    ) => Effect.Effect<ReadonlyArray<EventWithCursor>>
    /** Where a reader begins who wants to know all that happens from now on, and nothing else. */
    readonly latest: (scope: AccountScope) => Effect.Effect<EventCursor>
    /** Forgets events from before `before`, of all accounts. */
    readonly sweep: (before: DateTime.Utc) => Effect.Effect<void>
  }
>()("domain/sandbox/EventStore") {}
