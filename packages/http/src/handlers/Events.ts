import { Access } from "@castellan/domain/identity/Access.ts"
import type { CurrentCredential } from "@castellan/domain/identity/Credential.ts"
import type { CurrentActor } from "@castellan/domain/identity/CurrentActor.ts"
import { EventStore } from "@castellan/domain/sandbox/EventStore.ts"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { Api } from "../api/Api.ts"
import * as EventStream from "../streams/EventStream.ts"
import { Limits } from "../middleware/Limits.ts"

export const EventsHandlers = HttpApiBuilder.group(
  Api,
  "events",
  Effect.fn(function* (handlers) {
    const store = yield* EventStore
    const limits = yield* Limits
    const { scopeOf, untilLost } = yield* Access

    return handlers.handleAll({
      follow: Effect.fnUntraced(function* ({ headers, query: { account_id, from = "now" } }) {
        const scope = yield* scopeOf(account_id)
        yield* limits.stream
        const given = EventStream.cursorAfter(headers["last-event-id"])
        const after = given ?? (from === "start" ? null : yield* store.latest(scope))
        const lost = Effect.provide(untilLost(scope), yield* Effect.context<CurrentActor | CurrentCredential>())
        return EventStream.respond(store, scope, after, lost)
      })
    })
  })
)
