/** Starts setups of accounts' environments. */
import { Context, DateTime, Effect, Layer, Option, Schema } from "effect"
import { SecureRandom } from "effect/crypto/SecureRandom"
import type { AccountScope } from "../identity/AccountScope.ts"
import { givenOrNew } from "../newNonce.ts"
import { SnapshotId } from "../sandbox/Snapshot.ts"
import { hasEnded, RunId, type TaskRun } from "../task/TaskRun.ts"
import { TaskRuns } from "../task/TaskRuns.ts"
import { EnvironmentStore } from "./EnvironmentStore.ts"

/** The result of a `setup-sandbox` run. */
export const SetupOutput = Schema.Struct({ githubRepo: Schema.String, snapshotId: SnapshotId })

/** Starts the setup of an account's environment, which gives it a repository and a snapshot. */
export class Setups extends Context.Service<
  Setups,
  {
    /** Queues a setup of the scope's account, or returns the running one. The same nonce returns the same run. */
    readonly start: (scope: AccountScope, nonce: Option.Option<string>) => Effect.Effect<TaskRun>
  }
>()("domain/account/Setups") {
  static readonly layer = Layer.effect(
    Setups,
    Effect.gen(function* () {
      const store = yield* EnvironmentStore
      const runs = yield* TaskRuns
      const random = yield* SecureRandom

      /** The run that holds the claim, queued if a crash prevented that; none once it has ended. */
      const unfinished = Effect.fnUntraced(function* (scope: AccountScope, id: RunId) {
        const known = yield* Effect.option(runs.get(scope, id))
        if (Option.isNone(known))
          return Option.some(yield* runs.start(scope, { task: "setup-sandbox", input: null, id }))
        return Option.filter(known, (run) => !hasEnded(run))
      })

      const start = Effect.fn("Setups.start")(function* (scope: AccountScope, nonce: Option.Option<string>) {
        const id = RunId.make(`run_${yield* givenOrNew(random, nonce)}`)
        let holder = Option.getOrNull(yield* store.get(scope))?.setup ?? null
        while (true) {
          if (holder === id) return yield* runs.start(scope, { task: "setup-sandbox", input: null, id })
          const current: Option.Option<TaskRun> = holder === null ? Option.none() : yield* unfinished(scope, holder)
          if (Option.isSome(current)) return current.value
          holder = yield* store.claimSetup(scope, id, holder, yield* DateTime.now)
        }
      })

      return Setups.of({ start })
    })
  )
}
