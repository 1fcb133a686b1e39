/** Server-sent events, read over however many connections it takes, nothing twice and nothing left out. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Sse from "effect/encoding/Sse"
import * as Stream from "effect/Stream"
import { brokenOff, open } from "./Client.ts"
import { type OperationId, operationOf } from "./Operations.ts"
import { type Failure, isTransient, Unreachable } from "./Failure.ts"

/** Where events come from, and what they say to us. */
export interface EventSource<A> {
  readonly operation: OperationId
  readonly params?: Readonly<Record<string, string>>
  readonly query: Record<string, string | undefined>
  /** What is said of an event; undefined where it is nothing to tell. */
  readonly read: (event: Sse.Event) => A | undefined
  /** Whether nothing comes after it. */
  readonly isLast: (told: A) => boolean
  /** What is wrong where the server can't go on, and where it goes on no more without saying why. */
  readonly broken: string
}

/** The server says something every 15 seconds; after this silence the connection is taken for dead. */
const longestSilence = "60 seconds"

/** Milliseconds before it is asked again, each time it breaks off without having told or lasted anything. */
const afterBreaks = [250, 500, 1000, 2000, 4000, 5000, 5000, 5000, 5000, 5000]

/** A connection that lasted so many milliseconds was a good one, though there was nothing to say. */
const lasting = 10_000

/** One connection's worth of events, from after the event of that id, until there is silence for so long. */
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
            : Effect.sync(() => ({ told: read(event), id: event.id }))
        )
      )
    ),
    Stream.unwrap
  )

/** Gives to `tell` what the events say as they come, and gives back the last. */
export const follow = Effect.fnUntraced(function* <A, E, R>(
  source: EventSource<A>,
  tell: (told: A) => Effect.Effect<void, E, R>
) {
  let after: string | undefined
  let last: { readonly told: A } | undefined
  let breaks = 0
  while (true) {
    const begun = yield* Clock.currentTimeMillis
    const result = yield* connection(source, after, longestSilence).pipe(
      Stream.takeUntil(({ told }) => told !== undefined && source.isLast(told)),
      Stream.runForEach(({ id, told }) =>
        Effect.gen(function* () {
          if (told !== undefined) {
            yield* tell(told)
            breaks = 0
            if (source.isLast(told)) last = { told }
          }
          after = id ?? after
        })
      ),
      Effect.result
    )
    if (last !== undefined) return last.told
    if ((yield* Clock.currentTimeMillis) - begun >= lasting) breaks = 0
    const wait = afterBreaks[breaks++]
    if (result._tag === "Failure") {
      if (wait === undefined || !isTransient(result.failure as Failure)) return yield* Effect.fail(result.failure)
    } else if (wait === undefined) {
      return yield* new Unreachable({ url: operationOf(source.operation).path, why: source.broken })
    }
    yield* Effect.sleep(wait ?? 0)
  }
})
