/** Reads server-sent events and reconnects after the last received one, so that none is missed or repeated. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Sse from "effect/encoding/Sse"
import * as Stream from "effect/Stream"
import { brokenOff, open } from "./Client.ts"
import { type OperationId, operationOf } from "./Operations.ts"
import { type Failure, isTransient, Unreachable } from "./Failure.ts"

/** The operation that streams the events, and how to read them. */
export interface EventSource<A> {
  readonly operation: OperationId
  readonly params?: Readonly<Record<string, string>>
  readonly query: Record<string, string | undefined>
  /** The value of an event; undefined if the event is to be ignored. */
  readonly read: (event: Sse.Event) => A | undefined
  /** Whether the value is the last of the stream. */
  readonly isLast: (value: A) => boolean
  /** The sentence for the user if the server ends the stream early. */
  readonly broken: string
}

/** The server sends something every 15 seconds, so a connection that is silent for this long is dead. */
const longestSilence = "60 seconds"

/** Waits before each reconnection, in milliseconds. They start again once an event arrives or a connection lasts. */
const reconnectDelays = [250, 500, 1000, 2000, 4000, 5000, 5000, 5000, 5000, 5000]

/** A connection that lasted this many milliseconds counts as working, even without an event. */
const goodConnectionMs = 10_000

/** The events of one connection after the given id, until the connection has been silent for too long. */
export const connection = <A>(
  { broken, operation, params, query, read }: EventSource<A>,
  after: string | undefined,
  silence: typeof longestSilence | "500 millis"
) =>
  open(operation, {
    ...(params === undefined ? {} : { params: params as never }),
    query,
    headers: { accept: "text/event-stream", ...(after === undefined ? {} : { "last-event-id": after }) }
  }).pipe(
    Effect.map(({ response, url }) =>
      response.stream.pipe(
        Stream.mapError(brokenOff(url)),
        Stream.timeout(silence),
        Stream.decodeText,
        Stream.pipeThroughChannelOrFail(Sse.decode({ dispatchEmptyNamedEvents: true })),
        Stream.catchTags({
          Retry: () => Stream.empty,
          SseError: ({ message }) => Stream.fail(new Unreachable({ url, why: message }))
        }),
        Stream.mapEffect((event) =>
          event.event === "error"
            ? Effect.fail(new Unreachable({ url, why: broken }))
            : Effect.sync(() => ({ value: read(event), id: event.id }))
        )
      )
    ),
    Stream.unwrap
  )

/** Passes each value to `handle` as it arrives, and returns the last one. */
export const follow = Effect.fnUntraced(function* <A, E, R>(
  source: EventSource<A>,
  handle: (value: A) => Effect.Effect<void, E, R>
) {
  let after: string | undefined
  let last: { readonly value: A } | undefined
  let breaks = 0
  while (true) {
    const begun = yield* Clock.currentTimeMillis
    const result = yield* connection(source, after, longestSilence).pipe(
      Stream.takeUntil(({ value }) => value !== undefined && source.isLast(value)),
      Stream.runForEach(({ id, value }) =>
        Effect.gen(function* () {
          if (value !== undefined) {
            yield* handle(value)
            breaks = 0
            if (source.isLast(value)) last = { value }
          }
          after = id ?? after
        })
      ),
      Effect.result
    )
    if (last !== undefined) return last.value
    if ((yield* Clock.currentTimeMillis) - begun >= goodConnectionMs) breaks = 0
    const wait = reconnectDelays[breaks++]
    if (result._tag === "Failure") {
      if (wait === undefined || !isTransient(result.failure as Failure)) return yield* Effect.fail(result.failure)
    } else if (wait === undefined) {
      return yield* new Unreachable({ url: operationOf(source.operation).path, why: source.broken })
    }
    yield* Effect.sleep(wait ?? 0)
  }
})
