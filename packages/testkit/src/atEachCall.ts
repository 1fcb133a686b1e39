/** Kills a server everywhere it can be killed: before and after each call that it makes of a port. */
import type { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { Effect, Layer } from "effect"
import { TestClock } from "effect/testing"
import { Faults } from "./Faults.ts"
import * as given from "./given.ts"

export interface Killed<W, L, P, E1, E2, E3> {
  /** What outlives the server: every port, and `Faults`. Each time it is a new one. */
  readonly world: Layer.Layer<W>
  /** One life of the server, over ports that `Faults.around` can break. */
  readonly life: Layer.Layer<L, never, NoInfer<W>>
  /** What was done before, in a life that ends well. */
  readonly first: (scope: AccountScope) => Effect.Effect<P, E1, NoInfer<L | W>>
  /** What the server is killed at. */
  readonly doing: (scope: AccountScope, prepared: P) => Effect.Effect<unknown, E2, NoInfer<L | W>>
  /** Finds out in another life what is left; `when` says where the one before was killed. */
  readonly later: (scope: AccountScope, when: string, prepared: P) => Effect.Effect<void, E3, NoInfer<L | W>>
}

/** Does so at each call that `doing` makes, until it makes no more, and gives the calls in their order. */
export const atEachCall = Effect.fnUntraced(function* <W, L, P, E1, E2, E3>(
  killed: Killed<W, L, P, E1, E2, E3>
): Effect.fn.Return<Array<string>, E1 | E3> {
  const calls: Array<string> = []
  for (let call = 0; ; call++) {
    let reached = false
    for (const moment of ["before", "after"] as const) {
      const history = Effect.gen(function* () {
        const faults = yield* Faults
        const scope = yield* given.scope
        const prepared = yield* Effect.provide(killed.first(scope), killed.life)
        const before = faults.calls.length
        faults.crashAt(before + call, moment)
        yield* Effect.exit(Effect.provide(killed.doing(scope, prepared), killed.life))
        reached = faults.calls.length > before + call
        const name = faults.calls[before + call]
        if (reached && moment === "before") calls.push(name!)
        faults.heal()
        yield* TestClock.adjust("1 second")
        const when = `killed ${moment} ${name}, call ${call}`
        yield* Effect.provide(killed.later(scope, when, prepared), killed.life)
      })
      yield* Effect.provide(history, Layer.fresh(killed.world)) as Effect.Effect<void, E1 | E3>
    }
    if (!reached) return calls
  }
})
