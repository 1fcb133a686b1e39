import { it } from "@effect/vitest"
import { Effect, type Layer, Logger } from "effect"

/** A port's promises: a sentence, and what must come true for it. */
export type Promises<R> = Record<string, () => Effect.Effect<void, unknown, R>>

/** Holds a layer to promises, in real time. */
export const holds = <R, E>(port: string, subject: string, layer: Layer.Layer<R, E>, promises: Promises<R>) =>
  it.layer(layer, { timeout: "60 seconds", excludeTestServices: true })(`${port} (${subject})`, (it) => {
    // What goes wrong on purpose is not worth a line.
    const quietly = Effect.provide(Logger.layer([]))
    for (const [name, promise] of Object.entries(promises)) it.effect(name, () => quietly(promise()))
  })
