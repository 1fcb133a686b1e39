/** Reads the log of a run: as a stream until it ends, or the output so far. */
import * as Effect from "effect/Effect"
import type * as Sse from "effect/encoding/Sse"
import * as Stream from "effect/Stream"
import type { EventOf } from "../client/Operations.ts"
import * as ServerEvents from "../client/ServerEvents.ts"

type DataOf<Name> = Extract<EventOf<"runs.logs">, { readonly event: Name }>["data"]

/** The result of a run; `exitCode` is null if its command did not run to its end. */
export type Ended = Omit<DataOf<"exit">, "truncated"> & {
  /** Whether the log is missing some of the command's output. Older servers leave it out. */
  readonly truncated?: boolean
}

export type Printed = DataOf<"output">

export type LogEvent =
  | { readonly _tag: "Printed"; readonly printed: Printed; readonly data: string }
  | { readonly _tag: "Ended"; readonly ended: Ended; readonly data: string }

export interface WhichLog {
  readonly run: string
  readonly account: string | undefined
}

/** If no output arrives for this long, the output so far counts as complete. */
const quiet = "500 millis"

const read = ({ data, event }: Sse.Event): LogEvent | undefined => {
  switch (event) {
    case "output":
      return { _tag: "Printed", printed: JSON.parse(data) as Printed, data }
    case "exit":
      return { _tag: "Ended", ended: JSON.parse(data) as Ended, data }
  }
}

const isLast = (event: LogEvent) => event._tag === "Ended"

const logOf = ({ account, run }: WhichLog): ServerEvents.EventSource<LogEvent> => ({
  operation: "runs.logs",
  params: { runId: run },
  query: { account_id: account },
  read,
  isLast,
  broken: "the server can't read the log any longer"
})

/** Passes each event to `tell` as it arrives, until the run has ended. */
export const follow = Effect.fnUntraced(function* <E, R>(
  which: WhichLog,
  tell: (event: LogEvent) => Effect.Effect<void, E, R>
) {
  const last = yield* ServerEvents.follow(logOf(which), tell)
  return last._tag === "Ended" ? last.ended : yield* Effect.die(new Error("the log continued after its end"))
})

/** Passes the output so far to `tell`, and does not wait for more. */
export const soFar = <E, R>(which: WhichLog, tell: (event: LogEvent) => Effect.Effect<void, E, R>) =>
  ServerEvents.connection(logOf(which), undefined, quiet).pipe(
    Stream.takeUntil(({ value }) => value !== undefined && isLast(value)),
    Stream.runForEach(({ value }) => (value === undefined ? Effect.void : tell(value)))
  )
