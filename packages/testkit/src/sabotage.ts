/** Shows that promises bite: over a layer that is broken in just that respect, each of them fails. */
import { assert, describe, it } from "@effect/vitest"
import { type Context, Effect, Exit, Layer, Logger } from "effect"

/** What is put in place of some of a port's members. */
export type Breaking<S> = (real: S) => Partial<S>

/** How long a promise may hang on a broken layer before that counts as failing. */
const patience = "3 seconds"

/** The layer with some of a port's members broken. */
const broken = <I, S extends object, R, E>(port: Context.Key<I, S>, layer: Layer.Layer<R, E>, breaking: Breaking<S>) =>
  Layer.effect(
    port,
    Effect.map(port, (real) => ({ ...real, ...breaking(real) }))
  ).pipe(Layer.provideMerge(layer as unknown as Layer.Layer<I, E>)) as unknown as Layer.Layer<R, E>

export const sabotage = <I, S extends object, R, E>(
  port: Context.Key<I, S>,
  layer: Layer.Layer<R, E>,
  promises: Record<string, () => Effect.Effect<void, unknown, R>>,
  /** For every promise what to break so that it fails. */
  breakings: Record<string, Breaking<S>>
) =>
  describe(`The promises of ${port.key.split("/").at(-1)}`, () => {
    it("are all known to fail somewhere", () => {
      assert.deepStrictEqual(Object.keys(breakings).toSorted(), Object.keys(promises).toSorted())
    })
    for (const [name, breaking] of Object.entries(breakings)) {
      it.live(`fail where they are not kept: ${name}`, () =>
        Effect.gen(function* () {
          const attempt = promises[name]!().pipe(Effect.provide(Layer.fresh(broken(port, layer, breaking))))
          const exit = yield* attempt.pipe(Effect.timeout(patience), Effect.exit, Effect.provide(Logger.layer([])))
          assert.isTrue(Exit.isFailure(exit), `kept over a layer that breaks it: ${name}`)
        })
      )
    }
  })
