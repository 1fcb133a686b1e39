/** Simulates faults between a server and its provider: responses are lost, and calls are late, repeated or refused. */
import { SandboxProvider, SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Context, Data, Effect, Layer } from "effect"

/** What happens to one call. */
export type Trouble = Data.TaggedEnum<{
  /** It takes effect, and the response is lost. */
  LostAnswer: {}
  /** It takes effect twice. */
  Twice: {}
  /** It takes effect after `before` and responds after `after`, both in milliseconds. */
  Slow: { readonly before: number; readonly after: number }
  /** The provider refuses it after `after` milliseconds. */
  Refused: { readonly after: number }
}>
export const Trouble = Data.taggedEnum<Trouble>()

export interface ProviderCall {
  readonly method: string
  readonly sandbox: string
}

export class ProviderFaults extends Context.Service<
  ProviderFaults,
  {
    /** The calls so far, in order. */
    readonly calls: ReadonlyArray<ProviderCall>
    /** The maximum number of concurrent calls. */
    readonly most: () => number
    /** Plans the effect on the next call of a method that has none planned. */
    readonly plan: (method: string, trouble: Trouble) => void
    /** Blocks all calls, or lets them through again. */
    readonly cut: (isCut: boolean) => void
    /** Forgets all plans. */
    readonly clear: () => void
  }
>()("test/session/Weather") {}

type Call = (...args: ReadonlyArray<unknown>) => Effect.Effect<unknown, unknown>

const isAsked = (method: string) =>
  [
    "find",
    "findMany",
    "create",
    "resume",
    "stop",
    "remove",
    "extend",
    "snapshot",
    "snapshots",
    "removeSnapshot"
  ].includes(method)

const make = (real: SandboxProvider["Service"]) => {
  const calls: Array<ProviderCall> = []
  const planned = new Map<string, Array<Trouble>>()
  let isCut = false
  let underWay = 0
  let most = 0

  const met = (method: string, trouble: Trouble | undefined, call: Effect.Effect<unknown, unknown>) => {
    const unavailable = (retryable: boolean) => Effect.fail(new SandboxUnavailable({ operation: method, retryable }))
    if (isCut) return unavailable(true)
    switch (trouble?._tag) {
      case undefined:
        return call
      case "LostAnswer":
        return Effect.andThen(Effect.exit(call), unavailable(true))
      case "Twice":
        return Effect.andThen(Effect.exit(call), call)
      case "Slow":
        return Effect.flatMap(Effect.exit(Effect.delay(call, trouble.before)), (exit) =>
          Effect.andThen(Effect.sleep(trouble.after), exit)
        )
      case "Refused":
        return Effect.delay(unavailable(false), trouble.after)
    }
  }

  const around =
    (method: string, call: Call): Call =>
    (...args) =>
      Effect.suspend(() => {
        const [given] = args
        const sandbox = typeof given === "string" ? given : ((given as { name?: string }).name ?? "")
        calls.push({ method, sandbox })
        most = Math.max(most, ++underWay)
        const trouble = planned.get(method)?.shift()
        return Effect.ensuring(
          met(method, trouble, call(...args)),
          Effect.sync(() => void underWay--)
        )
      })

  const provider = Object.fromEntries(
    Object.entries(real).map(([key, member]) => [key, isAsked(key) ? around(key, member as Call) : member])
  ) as SandboxProvider["Service"]

  const faults = ProviderFaults.of({
    calls,
    most: () => most,
    plan: (method, trouble) => void planned.set(method, [...(planned.get(method) ?? []), trouble]),
    cut: (is) => {
      isCut = is
    },
    clear: () => {
      isCut = false
      planned.clear()
    }
  })
  return Context.make(SandboxProvider, provider).pipe(Context.add(ProviderFaults, faults))
}

/** The provider of the context with these faults. */
export const layer = Layer.effectContext(Effect.map(SandboxProvider, make))

/** A store that delays every call so that others interleave; the same calls always have the same delays. */
export const unhurried = <I, S extends object>(port: Context.Key<I, S>, members: ReadonlyArray<keyof S & string>) =>
  Layer.effect(
    port,
    Effect.map(port, (real) => {
      let last = 1
      const pause = Effect.suspend(() => {
        last = (last * 1103 + 12_345) % 32_749
        return last % 3 === 0 ? Effect.void : Effect.sleep(last % 4)
      })
      const slowed = members.map((name) => {
        const call = real[name] as unknown as Call
        return [name, (...args: ReadonlyArray<unknown>) => pause.pipe(Effect.andThen(call(...args)), Effect.tap(pause))]
      })
      return { ...real, ...Object.fromEntries(slowed) }
    })
  )
