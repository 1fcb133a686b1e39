/** Shows that each clause of a contract fails over a layer that is broken in that respect. */
import { assert, describe, it } from "@effect/vitest"
import { type Context, Effect, Exit, Layer, Logger } from "effect"

/** Replaces some members of a port with broken ones. */
export type Mutant<S> = (real: S) => Partial<S>

/** A clause that has not ended after this time over a mutant counts as failed. */
const patience = "3 seconds"

const mutated = <I, S extends object, R, E>(port: Context.Key<I, S>, layer: Layer.Layer<R, E>, mutant: Mutant<S>) =>
  Layer.effect(
    port,
    Effect.map(port, (real) => ({ ...real, ...mutant(real) }))
  ).pipe(Layer.provideMerge(layer as unknown as Layer.Layer<I, E>)) as unknown as Layer.Layer<R, E>

/** Tests that every clause has a mutant, and that it fails over that mutant. */
export const sabotage = <I, S extends object, R, E>(
  port: Context.Key<I, S>,
  layer: Layer.Layer<R, E>,
  clauses: Readonly<Record<string, () => Effect.Effect<void, unknown, R>>>,
  mutants: Readonly<Record<string, Mutant<S>>>
) =>
  describe(`The contract of ${port.key.split("/").at(-1)}`, () => {
    it("has a mutant for each of its clauses", () => {
      assert.deepStrictEqual(Object.keys(mutants).toSorted(), Object.keys(clauses).toSorted())
    })
    for (const [name, mutant] of Object.entries(mutants)) {
      it.live(`fails over a layer that breaks the clause: ${name}`, () =>
        Effect.gen(function* () {
          const attempt = clauses[name]!().pipe(Effect.provide(Layer.fresh(mutated(port, layer, mutant))))
          const exit = yield* attempt.pipe(Effect.timeout(patience), Effect.exit, Effect.provide(Logger.layer([])))
          assert.isTrue(Exit.isFailure(exit), `the clause holds over a layer that breaks it: ${name}`)
        })
      )
    }
  })
