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

type Told = { readonly _tag: "Happened"; readonly data: string } | { readonly _tag: "Now" }

const read = ({ data, event }: Sse.Event): Told | undefined =>
  data !== "" ? { _tag: "Happened", data } : event === "now" ? { _tag: "Now" } : undefined

/** Columns as wide as what they mostly hold; a line can't wait for those behind it. */
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
      Flag.withDescription("Go on with those to come"),
      Flag.withDefault(false)
    ),
    from: Flag.Literals("from", ["start", "now"]).pipe(
      Flag.withDescription("Where to begin: at the oldest that is kept, or now, which is usual with -f"),
      Flag.optional
    ),
    account
  },
  Effect.fnUntraced(function* ({ account, follow, from }) {
    const begin = Option.getOrElse(from, () => (follow ? "now" : "start"))
    if (!follow && begin === "now") return yield* new UsageRefused({ say: "--from now needs -f: nothing comes before" })
    const seen: Array<string> = []
    yield* ServerEvents.follow(
      {
        operation: "events.follow",
        query: { account_id: account, from: begin },
        // Who goes on has no use for a word that there are no more for now.
        read: (event) => {
          const told = read(event)
          return follow && told?._tag === "Now" ? undefined : told
        },
        isLast: ({ _tag }) => _tag === "Now",
        broken: "the server can't read the events any further"
      },
      (told) => {
        if (told._tag === "Now") return orNone("events", seen)
        seen[0] ??= told.data
        return print(told.data)
      }
    )
  })
).pipe(
  Command.withDescription(
    "Print what happened to sandboxes and sessions, a line for each event: when, what, sandbox, session, why; with --json the events as they came, one a line"
  ),
  Command.withShortDescription("Print or follow what happens to sandboxes and sessions"),
  Command.withExamples([{ command: "castellan events" }, { command: "castellan events -f --from start" }])
)
