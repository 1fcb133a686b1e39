/** Decorates the sandbox provider with metrics and spans. Does nothing unless metrics are enabled. */
import { Effect, Layer, Option, Stream } from "effect"
import { metrics, MetricsEnabled, trackDuration, trackOutcome } from "../Metrics.ts"
import { SandboxProvider, type SandboxSpec } from "./SandboxProvider.ts"

type Call = (...args: ReadonlyArray<unknown>) => unknown

/** The sandbox of a call: its first argument, or the name in it. */
const sandboxOf = (operation: string, [first]: ReadonlyArray<unknown>): Record<string, string> => {
  if (operation === "removeSnapshot" || operation === "findMany") return {}
  const name = typeof first === "object" && first !== null && "name" in first ? first.name : first
  return typeof name === "string" ? { sandbox: name } : {}
}

/** Records how long a sandbox takes to be ready: without an image, from an image, or resumed. */
const trackReady = (operation: string, [first]: ReadonlyArray<unknown>) => {
  if (operation === "resume") return trackDuration(metrics.readyMillis, { kind: "resume" })
  if (operation !== "create") return <A, E, R>(effect: Effect.Effect<A, E, R>) => effect
  return trackDuration(metrics.readyMillis, { kind: Option.isNone((first as SandboxSpec).from) ? "cold" : "image" })
}

const instrument =
  (operation: string, call: Call): Call =>
  (...args) => {
    const result = call(...args)
    const trackCall = trackOutcome(metrics.providerCalls, { operation }, "code")
    const options = { kind: "client", attributes: sandboxOf(operation, args) } as const
    if (Stream.isStream(result)) {
      return Stream.onExit(result as Stream.Stream<unknown, unknown>, (exit) => Effect.ignoreCause(trackCall(exit)))
    }
    if (!Effect.isEffect(result)) return result
    return (result as Effect.Effect<unknown, unknown>).pipe(
      trackCall,
      trackReady(operation, args),
      trackDuration(metrics.providerMillis, { operation }),
      Effect.withSpan(`SandboxProvider.${operation}`, options)
    )
  }

export const layer = Layer.effect(
  SandboxProvider,
  Effect.gen(function* () {
    const provider = yield* SandboxProvider
    if (!(yield* MetricsEnabled)) return provider
    const members = Object.entries(provider).map(([key, member]) => [
      key,
      typeof member === "function" ? instrument(key, member as Call) : member
    ])
    return SandboxProvider.of(Object.fromEntries(members) as SandboxProvider["Service"])
  })
)
