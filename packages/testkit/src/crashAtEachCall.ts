/** Crashes a server at every point where it can crash: before and after each call that it makes of a port. */
import type { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { Effect, Layer } from "effect"
import { TestClock } from "effect/testing"
import { Faults } from "./Faults.ts"
import * as given from "./given.ts"

export interface CrashTest<W, L, P, E1, E2, E3> {
  /** What outlives the server: every port, and `Faults`. Each crash gets a new world. */
  readonly world: Layer.Layer<W>
  /** One server process over ports that `Faults.around` can break. */
  readonly server: Layer.Layer<L, never, NoInfer<W>>
  /** Runs in a server that does not crash; its result goes to `act` and `verify`. */
  readonly prepare: (scope: AccountScope) => Effect.Effect<P, E1, NoInfer<L | W>>
  /** Runs in the server that crashes. */
  readonly act: (scope: AccountScope, prepared: P) => Effect.Effect<unknown, E2, NoInfer<L | W>>
  /** Checks the state after the crash in a restarted server; `when` names the crash point. */
  readonly verify: (scope: AccountScope, when: string, prepared: P) => Effect.Effect<void, E3, NoInfer<L | W>>
}

/** Runs the test once for each crash point of `act`, and returns the names of the calls in their order. */
export const crashAtEachCall = Effect.fnUntraced(function* <W, L, P, E1, E2, E3>(
  test: CrashTest<W, L, P, E1, E2, E3>
): Effect.fn.Return<Array<string>, E1 | E3> {
  const calls: Array<string> = []
  for (let call = 0; ; call++) {
    let reached = false
    for (const moment of ["before", "after"] as const) {
      const history = Effect.gen(function* () {
        const faults = yield* Faults
        const scope = yield* given.scope
        const prepared = yield* Effect.provide(test.prepare(scope), test.server)
        const before = faults.calls.length
        faults.crashAt(before + call, moment)
        yield* Effect.exit(Effect.provide(test.act(scope, prepared), test.server))
        reached = faults.calls.length > before + call
        const name = faults.calls[before + call]
        if (reached && moment === "before") calls.push(name!)
        faults.heal()
        yield* TestClock.adjust("1 second")
        const when = `crashed ${moment} ${name}, call ${call}`
        yield* Effect.provide(test.verify(scope, when, prepared), test.server)
      })
      yield* Effect.provide(history, Layer.fresh(test.world)) as Effect.Effect<void, E1 | E3>
    }
    if (!reached) return calls
  }
})
