import type { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { EventStore, type EventWithCursor } from "@castellan/domain/sandbox/EventStore.ts"
import { EventCursor, SandboxEvent } from "@castellan/domain/sandbox/SandboxEvent.ts"
import { Context, Effect, Layer } from "effect"

/** Writes events for the other fakes, atomically with their changes. */
export class MemoryEvents extends Context.Service<
  MemoryEvents,
  {
    readonly write: (scope: AccountScope, event: SandboxEvent) => void
  }
>()("testkit/MemoryEvents") {}

/** Stores events of accounts in memory. */
export const layer = Layer.effectContext(
  Effect.sync(() => {
    let rows: Array<EventWithCursor & { readonly place: number }> = []
    let last = 0

    const of = ({ account }: AccountScope) => rows.filter(({ event }) => event.account === account)

    const events = MemoryEvents.of({
      write: ({ account }, event) => {
        const place = ++last
        const cursor = EventCursor.make(`${place}`)
        rows.push({ event: new SandboxEvent({ ...event, account }), cursor, place })
      }
    })

    const store = EventStore.of({
      read: (scope, after, limit) =>
        Effect.sync(() =>
          of(scope)
            .filter(({ place }) => place > Number(after ?? 0))
            .slice(0, limit)
            .map(({ cursor, event }) => ({ event, cursor }))
        ),
      latest: (scope) => Effect.sync(() => of(scope).at(-1)?.cursor ?? EventCursor.make("0")),
      sweep: (before) =>
        Effect.sync(() => {
          rows = rows.filter(({ event }) => event.at.epochMilliseconds >= before.epochMilliseconds)
        })
    })

    return Context.make(EventStore, store).pipe(Context.add(MemoryEvents, events))
  })
)
