/** Breaks ports from outside: a decorator counts their calls and, at the chosen one, lets the process "die". */
import { Context, Effect, Layer, Stream } from "effect"

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

export class Faults extends Context.Service<
  Faults,
  {
    /** The calls so far, as `AccountStore.add`, in their order. */
    readonly calls: ReadonlyArray<string>
    /** Dies at the call of that number, counted from 0. */
    readonly crashAt: (call: number, moment: Moment) => void
    /** Lets calls through again, as a new process would. */
    readonly heal: () => void
    /** For decorators: what to do at the next call. */
    readonly next: (name: string) => Moment | "dead" | "pass"
    readonly die: () => void
  }
>()("testkit/Faults") {
  static readonly layer = Layer.sync(Faults, () => {
    const calls: Array<string> = []
    let plan: { readonly call: number; readonly moment: Moment } | undefined
    let dead = false
    return Faults.of({
      calls,
      crashAt: (call, moment) => {
        plan = { call, moment }
      },
      heal: () => {
        plan = undefined
        dead = false
      },
      next: (name) => {
        if (dead) return "dead"
        calls.push(name)
        return plan !== undefined && plan.call === calls.length - 1 ? plan.moment : "pass"
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
    if (Stream.isStream(result)) {
      return Stream.unwrap(Effect.suspend(() => (faults.next(name) === "pass" ? Effect.succeed(result) : crash)))
    }
    if (!Effect.isEffect(result)) return result
    return Effect.suspend(() => {
      switch (faults.next(name)) {
        case "pass":
          return result
        case "after":
          return Effect.andThen(result, crash)
        default:
          return crash
      }
    })
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
