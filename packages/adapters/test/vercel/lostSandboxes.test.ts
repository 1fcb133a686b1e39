/** How the adapter interprets 404 and 410, by request and error code. */
import { CommandId } from "@castellan/domain/sandbox/Command.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { VercelEmulator } from "@castellan/testkit/emulators/vercel/VercelEmulator.ts"
import { asSteps, Step } from "@castellan/testkit/Program.ts"
import { assert, layer } from "@effect/vitest"
import { Duration, Effect, Option } from "effect"
import { randomUUID } from "node:crypto"
import { inMemory } from "./emulatedVercel.ts"

const refusals = [
  { status: 404, code: "not_found" },
  { status: 410, code: "gone" },
  { status: 410, code: "sandbox_stopped" },
  { status: 410, code: "snapshot_not_found" }
] as const

type Refusal = (typeof refusals)[number]

const lifetime = Duration.minutes(5)

/** Look-ups of a sandbox by name that do not resume it. */
const look = { method: "GET", path: /^\/v2\/sandboxes\/(?!snapshots|sessions)[^/?]+\?(?!.*resume=true)/, times: 1000 }
const resume = { method: "GET", path: /resume=true/ }
const create = { method: "POST", path: /^\/v3\/sandboxes\?/ }

const called = () => SandboxName.make(`t-${randomUUID()}`)

/** The outcome of a request that Vercel refuses. The sandbox runs at first. */
interface Row {
  readonly ends: (refusal: Refusal) => string
  readonly given: (
    name: SandboxName,
    plan: Effect.Effect<void>,
    refusal: Refusal
  ) => Effect.Effect<unknown, unknown, SandboxProvider | VercelEmulator>
  readonly which: { readonly method: string; readonly path: RegExp; readonly times?: number }
}

const provided = <A>(use: (provider: SandboxProvider["Service"]) => A) => Effect.map(SandboxProvider, use)

const attempt = <A, E>(use: (provider: SandboxProvider["Service"]) => Effect.Effect<A, E>) =>
  Effect.flatten(provided(use))

const run = (name: SandboxName) =>
  attempt((provider) =>
    provider.start(name, {
      ...asSteps(Step.Exit({ code: 0 })),
      id: CommandId.make("c"),
      cwd: null,
      env: {},
      timeout: Duration.minutes(1)
    })
  )

const always = (outcome: string) => () => outcome

const table: Record<string, Row> = {
  "a look at a sandbox": {
    which: look,
    ends: always("none"),
    given: (name, plan) =>
      Effect.andThen(
        plan,
        attempt((provider) => provider.find(name))
      )
  },
  "a look at one sandbox of several": {
    which: look,
    ends: always("[]"),
    given: (name, plan) =>
      Effect.andThen(
        plan,
        attempt((provider) => provider.findMany([name]))
      )
  },
  "resuming a sandbox that is still found": {
    which: resume,
    ends: ({ code }) =>
      code === "gone" || code === "sandbox_stopped" ? "SandboxUnavailable, retryable" : "SandboxGone",
    given: (name, plan) =>
      attempt((provider) => provider.stop(name)).pipe(
        Effect.andThen(plan),
        Effect.andThen(attempt((provider) => provider.resume(name, lifetime)))
      )
  },
  "resuming a sandbox that no look finds": {
    which: look,
    ends: always("SandboxGone"),
    given: (name, plan) =>
      attempt((provider) => provider.stop(name)).pipe(
        Effect.andThen(plan),
        Effect.andThen(attempt((provider) => provider.resume(name, lifetime)))
      )
  },
  "booting from a snapshot": {
    which: create,
    ends: always("SnapshotGone"),
    given: (name, plan) =>
      Effect.gen(function* () {
        const provider = yield* SandboxProvider
        const { id } = yield* provider.snapshot(name)
        yield* plan
        return yield* provider.create({ name: called(), from: Option.some(id), lifetime })
      })
  },
  "a command for a sandbox that runs": {
    which: { method: "POST", path: /\/cmd\?/ },
    ends: always("done"),
    given: (name, plan) => Effect.andThen(plan, run(name))
  },
  "an extension of a sandbox that runs": {
    which: { method: "POST", path: /extend-timeout/ },
    ends: always("done"),
    given: (name, plan) =>
      Effect.andThen(
        plan,
        attempt((provider) => provider.extend(name, Duration.minutes(1)))
      )
  },
  "stopping a sandbox": {
    which: { method: "POST", path: /\/stop\?/ },
    ends: always("done"),
    given: (name, plan) =>
      Effect.andThen(
        plan,
        attempt((provider) => provider.stop(name))
      )
  },
  "a command for a sandbox that no look finds": {
    which: look,
    ends: always("SandboxGone"),
    given: (name, plan) => Effect.andThen(plan, run(name))
  },
  "reading what a command of a stopped sandbox left, whose files are gone": {
    which: create,
    ends: always("SandboxGone"),
    given: (name, plan) =>
      Effect.gen(function* () {
        const provider = yield* SandboxProvider
        const { id } = yield* run(name)
        yield* provider.wait(name, id)
        yield* provider.stop(name)
        yield* plan
        return yield* provider.command(name, id)
      })
  },
  "removing a snapshot": {
    which: { method: "GET", path: /\/snapshots\// },
    ends: always("done"),
    given: (name, plan) =>
      Effect.gen(function* () {
        const provider = yield* SandboxProvider
        const { id } = yield* provider.snapshot(name)
        yield* plan
        return yield* provider.removeSnapshot(id)
      })
  },
  "removing a sandbox": {
    which: look,
    ends: always("done"),
    given: (name, plan) =>
      Effect.andThen(
        plan,
        attempt((provider) => provider.remove(name))
      )
  }
}

const outcomeOf = (result: unknown): string => {
  if (Option.isOption(result)) return Option.isNone(result) ? "none" : "done"
  return Array.isArray(result) ? JSON.stringify(result) : "done"
}

const failureOf = (failure: unknown): string => {
  const { _tag, retryable } = failure as { readonly _tag: string; readonly retryable?: boolean }
  return retryable === true ? `${_tag}, retryable` : _tag
}

layer(inMemory(), { timeout: "60 seconds", excludeTestServices: true })("Vercel Sandbox answers that", (it) => {
  const clear = Effect.map(VercelEmulator, ({ faults }) => faults.clear())

  for (const refusal of refusals) {
    it.effect(`interprets ${refusal.status} ${refusal.code} by the request that failed`, () =>
      Effect.gen(function* () {
        const { faults } = yield* VercelEmulator
        const provider = yield* SandboxProvider
        const found: Record<string, string> = {}
        for (const [what, { given, which }] of Object.entries(table)) {
          const name = called()
          yield* provider.create({ name, from: Option.none(), lifetime })
          const plan = Effect.sync(() => faults.plan({ kind: "status", ...refusal }, which))
          found[what] = yield* Effect.match(given(name, plan, refusal), { onSuccess: outcomeOf, onFailure: failureOf })
          yield* clear
          yield* provider.remove(name)
        }
        const wanted = Object.fromEntries(Object.entries(table).map(([what, { ends }]) => [what, ends(refusal)]))
        assert.deepStrictEqual(found, wanted)
      }).pipe(Effect.ensuring(clear))
    )

    it.effect(`creates a sandbox although every look-up of its name fails with ${refusal.status} ${refusal.code}`, () =>
      Effect.gen(function* () {
        const { faults } = yield* VercelEmulator
        const provider = yield* SandboxProvider
        const name = called()
        const first = yield* provider.create({ name, from: Option.none(), lifetime })
        if (refusal.status === 404) yield* provider.remove(name)
        faults.plan({ kind: "status", ...refusal }, look)
        const second = yield* provider.create({ name, from: Option.none(), lifetime })
        assert.strictEqual(second.status, "running")
        assert.notStrictEqual(second.incarnation, first.incarnation)
        yield* provider.remove(name)
        yield* clear
        assert.isTrue(Option.isNone(yield* provider.find(name)) || refusal.status === 404)
        yield* provider.remove(name)
      }).pipe(Effect.ensuring(clear))
    )
  }
})
