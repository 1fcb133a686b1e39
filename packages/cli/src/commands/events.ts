/** `castellan events`: prints and follows events of sandboxes and sessions. */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import type * as Sse from "effect/encoding/Sse"
import * as Option from "effect/Option"
import { UsageRefused } from "../client/Failure.ts"
import { account } from "../flags.ts"
import * as Output from "../output/Output.ts"
import { orNone } from "../client/pages.ts"
import * as ServerEvents from "../client/ServerEvents.ts"
import { plain } from "../output/Table.ts"
import type { EventBody } from "@castellan/http/api/groups/Events.ts"

type Message = { readonly _tag: "Event"; readonly data: string } | { readonly _tag: "CaughtUp" }

const read = ({ data, event }: Sse.Event): Message | undefined =>
  data !== "" ? { _tag: "Event", data } : event === "now" ? { _tag: "CaughtUp" } : undefined

/** Columns have fixed widths, because a line is printed before later ones are known. */
const line = ({ at, reason, sandboxId, sessionId, type }: EventBody): string =>
  [at.padEnd(24), type.padEnd(20), (sandboxId ?? "-").padEnd(36), (sessionId ?? "-").padEnd(36), plain(reason ?? "")]
    .join("  ")
    .trimEnd()

const print = Effect.fnUntraced(function* (data: string) {
  yield* Output.print(`${(yield* Output.isForProgram) ? data : line(JSON.parse(data) as EventBody)}\n`)
})

export const events = Command.make(
  "events",
  {
    follow: Flag.Boolean("follow").pipe(
      Flag.withAlias("f"),
      Flag.withDescription("Keep printing new events until Ctrl-C"),
      Flag.withDefault(false)
    ),
    from: Flag.Literals("from", ["start", "now"]).pipe(
      Flag.withDescription(
        "Where to begin: with the oldest event that is kept, or now. Default: now with -f, otherwise start"
      ),
      Flag.optional
    ),
    account
  },
  Effect.fnUntraced(function* ({ account, follow, from }) {
    const begin = Option.getOrElse(from, () => (follow ? "now" : "start"))
    if (!follow && begin === "now")
      return yield* new UsageRefused({ say: "--from now needs -f: there are no events between now and now" })
    const printed: Array<string> = []
    yield* ServerEvents.follow(
      {
        operation: "events.follow",
        query: { account_id: account, from: begin },
        read: (event) => {
          const message = read(event)
          return follow && message?._tag === "CaughtUp" ? undefined : message
        },
        isLast: ({ _tag }) => _tag === "CaughtUp",
        broken: "the server can't read the events any longer"
      },
      (message) => {
        if (message._tag === "CaughtUp") return orNone("events", printed)
        printed[0] ??= message.data
        return print(message.data)
      }
    )
  })
).pipe(
  Command.withDescription(
    "Print the events of sandboxes and sessions, one per line: time, type, sandbox, session, reason. With --json, print each event as one line of JSON"
  ),
  Command.withShortDescription("Print or follow events of sandboxes and sessions"),
  Command.withExamples([{ command: "castellan events" }, { command: "castellan events -f --from start" }])
)
