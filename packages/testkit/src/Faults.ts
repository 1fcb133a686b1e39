/** Decorates ports so that a test can crash the process at a chosen call, or hold that call. */
import { Context, Deferred, Effect, Layer, Stream } from "effect"

/** Whether the process crashes before the port runs the call, or after it, with the result lost. */
export type Moment = "before" | "after"

/** The defect that simulates `kill -9`: from then on no call reaches any port. */
export class Crashed {
  readonly _tag = "Crashed"
  readonly at: string
  constructor(at: string) {
    this.at = at
  }
}

/** A call that is held before its port runs it. */
export interface HeldCall {
  /** Completes when the call is made. */
  readonly reached: Effect.Effect<void>
  readonly release: Effect.Effect<void>
}

interface Gate {
  readonly reached: Deferred.Deferred<void>
  readonly open: Deferred.Deferred<void>
}

export class Faults extends Context.Service<
  Faults,
  {
    /** The calls so far, such as `AccountStore.add`, in order. */
    readonly calls: ReadonlyArray<string>
    /** Crashes at the call with this index, counted from 0. */
    readonly crashAt: (call: number, moment: Moment) => void
    /** Holds the call with this index, counted from 0, before its port runs it. */
    readonly holdAt: (call: number) => HeldCall
    /** Removes the planned fault and lets calls through again, as in a new process. */
    readonly heal: () => void
    /** For decorators: records a call and returns what to do with it. */
    readonly next: (name: string) => Moment | "dead" | "pass" | Effect.Effect<void>
    readonly die: () => void
  }
>()("testkit/Faults") {
  static readonly layer = Layer.sync(Faults, () => {
    const calls: Array<string> = []
    let plan: { readonly call: number; readonly moment: Moment } | undefined
    let dead = false
    let hold: { readonly call: number; readonly gate: Gate } | undefined
    const pass = (gate: Gate) => Effect.andThen(Deferred.succeed(gate.reached, undefined), Deferred.await(gate.open))
    return Faults.of({
      calls,
      crashAt: (call, moment) => {
        plan = { call, moment }
      },
      holdAt: (call) => {
        const gate = { reached: Deferred.makeUnsafe<void>(), open: Deferred.makeUnsafe<void>() }
        hold = { call, gate }
        return { reached: Deferred.await(gate.reached), release: Effect.asVoid(Deferred.succeed(gate.open, undefined)) }
      },
      heal: () => {
        plan = undefined
        hold = undefined
        dead = false
      },
      next: (name) => {
        if (dead) return "dead"
        calls.push(name)
        if (plan?.call === calls.length - 1) return plan.moment
        return hold?.call === calls.length - 1 ? pass(hold.gate) : "pass"
      },
      die: () => {
        dead = true
      }
    })
  })
}

type Call = (...args: ReadonlyArray<unknown>) => unknown

const breakable = (faults: Faults["Service"], name: string, call: Call): Call => {
  const crash = Effect.suspend(() => {
    faults.die()
    return Effect.die(new Crashed(name))
  })
  return (...args) => {
    const result = call(...args)
    const isStream = Stream.isStream(result)
    if (!isStream && !Effect.isEffect(result)) return result
    const met = Effect.suspend((): Effect.Effect<unknown> => {
      const now = faults.next(name)
      const whole = isStream ? Effect.succeed(result) : (result as Effect.Effect<unknown>)
      if (Effect.isEffect(now)) return Effect.andThen(now, whole)
      if (now === "pass") return whole
      return now === "after" && !isStream ? Effect.andThen(whole, crash) : crash
    })
    return isStream ? Stream.unwrap(met as Effect.Effect<Stream.Stream<unknown>>) : met
  }
}

/** Decorates the port of the context with `Faults`. Without a planned fault the port behaves as before. */
export const around = <I, S extends object>(port: Context.Key<I, S>, name: string): Layer.Layer<I, never, I | Faults> =>
  Layer.effect(
    port,
    Effect.gen(function* () {
      const faults = yield* Faults
      const real = yield* port
      const broken = Object.entries(real).map(([key, member]) => {
        const label = `${name}.${key}`
        if (typeof member === "function") return [key, breakable(faults, label, member as Call)]
        if (Effect.isEffect(member)) return [key, breakable(faults, label, () => member)()]
        return [key, member]
      })
      return Object.fromEntries(broken) as S
    })
  )
