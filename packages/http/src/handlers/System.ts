import { AccountId } from "@castellan/domain/identity/Account.ts"
import { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { TaskRunner } from "@castellan/domain/task/TaskRunner.ts"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { Api } from "../api/Api.ts"
import { NotReady } from "../api/Statuses.ts"
import { DataHealth } from "../server/DataHealth.ts"
import { Shutdown } from "../server/Shutdown.ts"

/** An id without an account, to check that the store answers. */
const nobody = AccountId.make("00000000-0000-0000-0000-000000000000")

export const SystemHandlers = HttpApiBuilder.group(
  Api,
  "system",
  Effect.fn(function* (handlers) {
    const identities = yield* IdentityStore
    const runner = yield* TaskRunner
    const { isolation, name, protections = [] } = (yield* SandboxProvider).supports
    const shutdown = yield* Shutdown
    const health = yield* DataHealth

    const answers = (part: string, ask: Effect.Effect<unknown>) =>
      ask.pipe(
        Effect.timeout("2 seconds"),
        Effect.catchCause(() => Effect.fail(new NotReady({ say: `The ${part} does not answer` })))
      )

    return handlers.handleAll({
      health: () => Effect.succeed({ status: "ok" as const }),
      ready: Effect.fnUntraced(function* () {
        if (shutdown.hasBegun()) return yield* new NotReady({ say: "The server is shutting down" })
        const wrong = yield* health
        if (wrong !== undefined) return yield* new NotReady({ say: `The data directory ${wrong}` })
        yield* Effect.all([answers("store", identities.findAccount(nobody)), answers("task runner", runner.ping)], {
          concurrency: 2
        })
        return { status: "ready" as const, provider: { name, isolation, protections } }
      })
    })
  })
)
