/** Breaks ports from outside: a decorator counts their calls and, at the chosen one, lets the process "die", or holds it. */
import { Context, Deferred, Effect, Layer, Stream } from "effect"

/** When the process dies: before the port did what it was asked, or after, with the answer lost. */
export type Moment = "before" | "after"

/** The defect that stands for `kill -9`: from then on no call of any port gets through. */
export class Crashed {
  readonly _tag = "Crashed"
  readonly at: string
  constructor(at: string) {
    this.at = at
  }
}

/** A call that waits at its port's door until it is let go on. */
export interface Held {
  /** Completes when the call has come to the door. */
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
    /** The calls so far, as `AccountStore.add`, in their order. */
    readonly calls: ReadonlyArray<string>
    /** Dies at the call of that number, counted from 0. */
    readonly crashAt: (call: number, moment: Moment) => void
    /** Holds the call of that number, counted from 0, before its port has heard of it. */
    readonly holdAt: (call: number) => Held
    /** Lets calls through again, as a new process would. */
    readonly heal: () => void
    /** For decorators: what to do at the next call. */
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

/** The port of the context behind a decorator that `Faults` steers; it keeps the port's contract while nothing is planned. */
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
