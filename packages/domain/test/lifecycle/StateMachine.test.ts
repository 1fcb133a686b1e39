import { applyIfUnchanged, applyToLatest } from "@castellan/domain/lifecycle/compareAndSet.ts"
import { AppliedTransition, isAllowed, type StateMachine } from "@castellan/domain/lifecycle/StateMachine.ts"
import { appMachine } from "@castellan/domain/app/AppLifecycle.ts"
import { sessionMachine } from "@castellan/domain/session/SessionLifecycle.ts"
import { runMachine } from "@castellan/domain/task/TaskRun.ts"
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Effect, Option } from "effect"
import * as fc from "fast-check"

type Light = "red" | "green" | "broken"
type Switch = { readonly _tag: "Turn" } | { readonly _tag: "Break" } | { readonly _tag: "Repair" }

interface Signal {
  readonly light: Light
  readonly version: number
}

const machine: StateMachine<Signal, Switch, Light, string> = {
  allowedTransitions: {
    Turn: { red: ["green"], green: ["red"] },
    Break: { red: ["broken"], green: ["broken"] },
    Repair: { broken: ["red"] }
  },
  stateOf: ({ light }) => light,
  versionOf: ({ version }) => version,
  change: ({ light }, { _tag }, { version }) => ({
    light: _tag === "Break" ? "broken" : light === "red" ? "green" : "red",
    version
  }),
  eventFor: (before, after) => `${before.light} to ${after.light}`
}

const now = DateTime.makeUnsafe(0)
const red: Signal = { light: "red", version: 0 }
const tags = ["Turn", "Break", "Repair"] as const

/** A store of one row that keeps the events it wrote. */
const newStore = (first: Signal) => {
  let row = first
  const events: Array<string> = []
  return {
    events,
    read: Effect.sync(() => Option.some(row)),
    write: ({ after, event, expectedVersion }: AppliedTransition<Signal, string>) =>
      Effect.sync(() => {
        if (row.version !== expectedVersion) return false
        row = after
        if (event !== null) events.push(event)
        return true
      })
  }
}

describe("AppliedTransition", () => {
  it("is made for an allowed transition only, one version on, with its event", () => {
    const applied = Option.getOrThrow(AppliedTransition.of(machine, red, { _tag: "Turn" }, now))
    assert.deepStrictEqual(
      [applied.after, applied.event, applied.expectedVersion],
      [{ light: "green", version: 1 }, "red to green", 0]
    )
    assert.isTrue(Option.isNone(AppliedTransition.of(machine, red, { _tag: "Repair" }, now)))
  })

  it("can't be created without the state machine", () => {
    const applied = Option.getOrThrow(AppliedTransition.of(machine, red, { _tag: "Turn" }, now))
    const { after, event, expectedVersion } = applied
    // @ts-expect-error its constructor is private
    const made: () => unknown = () => new AppliedTransition(after, event, expectedVersion)
    // @ts-expect-error an object with the same fields is none
    const lookalike: AppliedTransition<Signal, string> = { after, event, expectedVersion, isApplied: true }
    // @ts-expect-error nor is a copy
    const copy: AppliedTransition<Signal, string> = { ...applied }
    assert.isFunction(made)
    assert.isFalse(lookalike instanceof AppliedTransition || copy instanceof AppliedTransition)
  })

  it("dies if a change leads to a state that the table does not name", () => {
    const wrong = { ...machine, change: (signal: Signal) => ({ ...signal, version: signal.version + 1 }) }
    assert.throws(() => AppliedTransition.of(wrong, red, { _tag: "Turn" }, now), "Turn from red led to red")
  })

  it("dies if a change does not carry the next version", () => {
    const wrong = { ...machine, change: (): Signal => ({ light: "green", version: 0 }) }
    assert.throws(() => AppliedTransition.of(wrong, red, { _tag: "Turn" }, now))
  })
})

describe("The compare-and-set of transitions", () => {
  it.effect("refuses a transition of a row that has changed since it was read", () =>
    Effect.gen(function* () {
      const store = newStore({ light: "green", version: 1 })
      const written = yield* applyIfUnchanged(machine, store.write, red, { _tag: "Turn" })
      assert.isTrue(Option.isNone(written))
      assert.deepStrictEqual(store.events, [])
    })
  )

  it.effect("applies a transition to the latest row after a lost race, and stops if that does not allow it", () =>
    Effect.gen(function* () {
      const store = newStore({ light: "green", version: 7 })
      const turned = yield* applyToLatest(machine, store.write, store.read, red, { _tag: "Turn" })
      assert.deepStrictEqual(turned, Option.some<Signal>({ light: "red", version: 8 }))
      yield* applyToLatest(machine, store.write, store.read, red, { _tag: "Break" })
      assert.isTrue(Option.isNone(yield* applyToLatest(machine, store.write, store.read, red, { _tag: "Turn" })))
    })
  )

  it.effect("keeps every history of concurrent writers legal, in order and without a lost write", () =>
    Effect.promise(() =>
      fc.assert(
        fc.asyncProperty(
          fc.scheduler(),
          fc.array(fc.array(fc.constantFrom(...tags), { maxLength: 4 }), { minLength: 2, maxLength: 4 }),
          async (scheduler, writers) => {
            const store = newStore(red)
            const pause = Effect.promise(() => scheduler.schedule(Promise.resolve()))
            const write = (applied: AppliedTransition<Signal, string>) => Effect.andThen(pause, store.write(applied))
            const read = Effect.andThen(pause, store.read)
            const works = writers.map((transitions) =>
              Effect.runPromise(
                Effect.forEach(transitions, (_tag) =>
                  Effect.flatMap(store.read, (row) =>
                    applyToLatest(machine, write, read, Option.getOrThrow(row), { _tag })
                  )
                )
              )
            )
            await scheduler.waitFor(Promise.all(works))
            const written = (await Promise.all(works)).flat().filter(Option.isSome).length
            const last = Option.getOrThrow(await Effect.runPromise(store.read))
            assert.strictEqual(last.version, written)
            assert.strictEqual(store.events.length, written)
            store.events.reduce((light, event) => {
              const [from, to] = event.split(" to ")
              assert.strictEqual(from, light)
              return to!
            }, "red")
          }
        ),
        { numRuns: 200 }
      )
    )
  )

  it.effect("leaves the row and its event both written or both absent, wherever the writer is killed", () =>
    Effect.gen(function* () {
      for (const killedAt of [0, 1, 2, 3]) {
        const store = newStore(red)
        let calls = 0
        const orKill = <A>(effect: Effect.Effect<A>) =>
          Effect.suspend(() => (calls++ === killedAt ? Effect.interrupt : effect))
        const write = (applied: AppliedTransition<Signal, string>) =>
          Effect.andThen(
            orKill(Effect.void),
            Effect.tap(store.write(applied), () => orKill(Effect.void))
          )
        const work = Effect.forEach(["Turn", "Break"] as const, (_tag) =>
          applyToLatest(machine, write, store.read, red, { _tag })
        )
        yield* Effect.exit(work)
        const row = Option.getOrThrow(yield* store.read)
        assert.strictEqual(row.version, store.events.length)
        // The next worker finishes what is left from the row alone.
        yield* applyToLatest(machine, store.write, store.read, row, { _tag: "Break" })
        assert.strictEqual(Option.getOrThrow(yield* store.read).light, "broken")
      }
    })
  )
})

describe("The transition tables of sessions, apps and runs", () => {
  it("have a transition out of every state except the final ones", () => {
    const ends = (table: Record<string, Record<string, ReadonlyArray<string> | undefined>>) => {
      const edges = Object.values(table).flatMap((row) =>
        Object.entries(row).flatMap(([from, tos]) => tos!.map((to) => [from, to] as const))
      )
      const left = new Set(edges.filter(([from, to]) => from !== to).map(([from]) => from))
      return [...new Set(edges.flat())].filter((state) => !left.has(state)).toSorted()
    }
    assert.deepStrictEqual(ends(sessionMachine.allowedTransitions), [])
    assert.deepStrictEqual(ends(appMachine.allowedTransitions), ["ended"])
    assert.deepStrictEqual(ends(runMachine.allowedTransitions), ["CANCELED", "COMPLETED", "FAILED", "TIMED_OUT"])
  })

  it("decide which transitions are allowed", () => {
    assert.isTrue(isAllowed(machine, red, { _tag: "Break" }))
    assert.isFalse(isAllowed(machine, red, { _tag: "Repair" }))
  })
})
