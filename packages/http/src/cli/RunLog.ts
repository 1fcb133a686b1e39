/** The log of a run, read over however many connections it takes, nothing twice and nothing left out. */
import type { RunStatus } from "@castellan/domain/task/TaskRun.ts"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Sse from "effect/encoding/Sse"
import * as Stream from "effect/Stream"
import { brokenOff, open, path } from "./Client.ts"
import { type Failure, isPassing, Unreachable } from "./Failure.ts"

/** How a run ended; the code is null where no command came to its end. */
export interface Ended {
  readonly status: RunStatus
  readonly exitCode: number | null
}

export interface Printed {
  readonly stream: "stdout" | "stderr"
  readonly text: string
}

export type LogEvent =
  | { readonly _tag: "Printed"; readonly printed: Printed; readonly data: string }
  | { readonly _tag: "Ended"; readonly ended: Ended; readonly data: string }

export interface WhichLog {
  readonly run: string
  readonly account: string | undefined
}

/** The server says something every 15 seconds; after this silence the connection is taken for dead. */
const longestSilence = "60 seconds"

/** A command that prints nothing for so long has printed all it has so far. */
const quiet = "500 millis"

/** Milliseconds before the log is asked for again, each time it breaks off without having told or lasted anything. */
const afterBreaks = [250, 500, 1000, 2000, 4000, 5000, 5000, 5000, 5000, 5000]

/** A connection that lasted so many milliseconds was a good one, though the command had nothing to say. */
const lasting = 10_000

const toLogEvent = (url: string, { data, event }: Sse.Event): Effect.Effect<LogEvent | undefined, Unreachable> => {
  switch (event) {
    case "output":
      return Effect.sync(() => ({ _tag: "Printed", printed: JSON.parse(data) as Printed, data }))
    case "exit":
      return Effect.sync(() => ({ _tag: "Ended", ended: JSON.parse(data) as Ended, data }))
    case "error":
      return Effect.fail(new Unreachable({ url, why: "the server can't read the log any further" }))
    default:
      return Effect.succeed(undefined)
  }
}

/** One connection's worth of events, from after the event of that id. */
const connection = (which: WhichLog, after: string | undefined, silence: typeof longestSilence | typeof quiet) =>
  open(path`/api/tasks/runs/${which.run}/logs`, {
    query: { account_id: which.account },
    headers: { accept: "text/event-stream", ...(after === undefined ? {} : { "last-event-id": after }) }
  }).pipe(
    Effect.map(({ response, url }) =>
      response.stream.pipe(
        Stream.mapError(brokenOff(url)),
        Stream.timeout(silence),
        Stream.decodeText,
        Stream.pipeThroughChannelOrFail(Sse.decode()),
        Stream.catchTags({
          Retry: () => Stream.empty,
          SseError: ({ message }) => Stream.fail(new Unreachable({ url, why: message }))
        }),
        Stream.mapEffect((event) => Effect.map(toLogEvent(url, event), (logEvent) => ({ logEvent, id: event.id })))
      )
    ),
    Stream.unwrap
  )

/** Gives each event to `tell` as it appears, until the run has ended. */
export const follow = <E, R>(which: WhichLog, tell: (event: LogEvent) => Effect.Effect<void, E, R>) =>
  Effect.gen(function* () {
    let after: string | undefined
    let ended: Ended | undefined
    let breaks = 0
    while (true) {
      const begun = yield* Clock.currentTimeMillis
      const result = yield* connection(which, after, longestSilence).pipe(
        Stream.takeUntil(({ logEvent }) => logEvent?._tag === "Ended"),
        Stream.runForEach(({ id, logEvent }) =>
          Effect.gen(function* () {
            if (logEvent === undefined) return
            yield* tell(logEvent)
            breaks = 0
            after = id ?? after
            if (logEvent._tag === "Ended") ended = logEvent.ended
          })
        ),
        Effect.result
      )
      if (ended !== undefined) return ended
      if ((yield* Clock.currentTimeMillis) - begun >= lasting) breaks = 0
      const wait = afterBreaks[breaks++]
      if (result._tag === "Failure") {
        if (wait === undefined || !isPassing(result.failure as Failure)) return yield* Effect.fail(result.failure)
      } else if (wait === undefined) {
        return yield* new Unreachable({ url: which.run, why: "its log breaks off" })
      }
      yield* Effect.sleep(wait ?? 0)
    }
  })

/** Gives `tell` what the run has printed so far, and does not wait for more. */
export const soFar = <E, R>(which: WhichLog, tell: (event: LogEvent) => Effect.Effect<void, E, R>) =>
  connection(which, undefined, quiet).pipe(
    Stream.takeUntil(({ logEvent }) => logEvent?._tag === "Ended"),
    Stream.runForEach(({ logEvent }) => (logEvent === undefined ? Effect.void : tell(logEvent)))
  )
