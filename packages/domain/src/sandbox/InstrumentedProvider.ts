/** The provider behind a decorator that counts and traces its calls, where somebody collects that. */
import { Effect, Layer, Option, Stream } from "effect"
import { trackOutcome, metrics, MetricsEnabled, trackDuration } from "../Metrics.ts"
import { SandboxProvider, type SandboxSpec } from "./SandboxProvider.ts"

type Call = (...args: ReadonlyArray<unknown>) => unknown

/** The name of the sandbox that a call is about, if its first argument is one, or has one. */
const sandboxOf = (operation: string, [first]: ReadonlyArray<unknown>): Record<string, string> => {
  if (operation === "removeSnapshot" || operation === "findMany") return {}
  const name = typeof first === "object" && first !== null && "name" in first ? first.name : first
  return typeof name === "string" ? { sandbox: name } : {}
}

/** Measures what makes a sandbox ready: bare, from an image, or from its sleep. */
const readying = (operation: string, [first]: ReadonlyArray<unknown>) => {
  if (operation === "resume") return trackDuration(metrics.readyMillis, { kind: "resume" })
  if (operation !== "create") return <A, E, R>(effect: Effect.Effect<A, E, R>) => effect
  return trackDuration(metrics.readyMillis, { kind: Option.isNone((first as SandboxSpec).from) ? "cold" : "image" })
}

const seen =
  (operation: string, call: Call): Call =>
  (...args) => {
    const result = call(...args)
    const count = trackOutcome(metrics.providerCalls, { operation }, "code")
    const options = { kind: "client", attributes: sandboxOf(operation, args) } as const
    if (Stream.isStream(result)) {
      return Stream.onExit(result as Stream.Stream<unknown, unknown>, (exit) => Effect.ignoreCause(count(exit)))
    }
    if (!Effect.isEffect(result)) return result
    return (result as Effect.Effect<unknown, unknown>).pipe(
      count,
      readying(operation, args),
      trackDuration(metrics.providerMillis, { operation }),
      Effect.withSpan(`SandboxProvider.${operation}`, options)
    )
  }

/** The provider of the context, seen from outside; the same where nobody looks. */
export const layer = Layer.effect(
  SandboxProvider,
  Effect.gen(function* () {
    const real = yield* SandboxProvider
    if (!(yield* MetricsEnabled)) return real
    const members = Object.entries(real).map(([key, member]) => [
      key,
      typeof member === "function" ? seen(key, member as Call) : member
    ])
    return SandboxProvider.of(Object.fromEntries(members) as SandboxProvider["Service"])
  })
)
