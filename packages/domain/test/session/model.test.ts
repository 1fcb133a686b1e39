import { Lifecycle, Session } from "@castellan/domain/session/Session.ts"
import { SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import type { AppliedSessionTransition } from "../../src/session/SessionLifecycle.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Option } from "effect"
import * as fc from "fast-check"
import { Command, history, type History } from "./History.ts"
import { type Breaking, simulate } from "./Model.ts"
import { Trouble } from "./ProviderFaults.ts"

const runs = 100

const asked = { server: 0, session: 0, gap: 100 }
const open = Command.Open(asked)
const lateStop = Command.Trouble({ method: "stop", trouble: Trouble.Slow({ before: 70_000, after: 0 }) })
const wait = (seconds: number) => Command.Wait({ seconds })

/** A command for a server; the next one follows after `gap` milliseconds. */
const quickly = (server: number, gap: number) => ({ server, session: 0, gap })

interface Broken {
  readonly breaking: Breaking
  /** A history that reveals it. */
  readonly history: History
}

/** The transition as a store that ignores versions would write it. */
const forced = (step: AppliedSessionTransition, version: number) => {
  const lifecycle = new Lifecycle({ ...step.after.lifecycle, version: version + 1 })
  const after = new Session({ ...step.after, lifecycle })
  return { event: step.event, after, expectedVersion: version } as unknown as AppliedSessionTransition
}

/** Broken parts, each with a history in which it does harm. */
const broken: Record<string, Broken> = {
  "a stop that ignores the incarnation": {
    breaking: { provider: (real) => ({ stop: (name) => real.stop(name) }) },
    history: [open, lateStop, Command.Hibernate(asked), wait(65), open, wait(20)]
  },
  "a transition that is written without a version check": {
    breaking: {
      store: (real) => ({
        compareAndSet: Effect.fnUntraced(function* (scope, step) {
          if (yield* real.compareAndSet(scope, step)) return true
          const now = Option.getOrThrow(yield* real.get(scope, step.after.id))
          return yield* real.compareAndSet(scope, forced(step, now.lifecycle.version))
        })
      })
    },
    history: [Command.Open({ ...asked, gap: 0 }), Command.Open({ ...asked, server: 1 })]
  },
  "a refused transition that is reported as written": {
    breaking: {
      store: (real) => ({ compareAndSet: (scope, step) => Effect.as(real.compareAndSet(scope, step), true) })
    },
    history: [
      Command.Archive(quickly(0, 0)),
      Command.Open(quickly(0, 0)),
      Command.Hibernate(quickly(1, 3)),
      Command.Open(quickly(0, 0))
    ]
  },
  "a queue that reports no live runs": {
    breaking: { runs: () => ({ liveIn: () => Effect.succeed([]) }) },
    history: [open, Command.Run({ ...asked, seconds: 900 }), wait(310)]
  },
  "a reconciler that claims no due sessions": {
    breaking: { store: () => ({ claimDue: () => Effect.succeed([]) }) },
    history: [open]
  },
  "a provider that resumes sandboxes without their files, and reports success": {
    breaking: {
      provider: (real) => ({
        resume: (name, lifetime) =>
          Effect.andThen(
            real.remove(name),
            real.create({ name, from: Option.none(), lifetime }).pipe(Effect.catchTag("SnapshotGone", Effect.die))
          )
      })
    },
    history: [open, Command.Write({ session: 0, file: 0 }), Command.Hibernate(asked), open]
  },
  "a provider that reports all sandboxes as missing": {
    breaking: { provider: () => ({ findMany: () => Effect.succeed([]) }) },
    history: [open, wait(65)]
  },
  "a provider that reports a stop that it did not do": {
    breaking: { provider: () => ({ stop: () => Effect.void }) },
    history: [open, Command.Hibernate(asked), Command.Settle()]
  },
  "a provider that never removes anything": {
    breaking: {
      provider: () => ({ remove: () => Effect.fail(new SandboxUnavailable({ operation: "remove", retryable: true })) })
    },
    history: [Command.OpenOnce(asked)]
  }
}

/** Histories that once revealed a bug. */
const once: Record<string, History> = {
  "a late stop of an incarnation that was unknown when the stop was requested": [
    Command.Trouble({ method: "stop", trouble: Trouble.Slow({ before: 1000, after: 0 }) }),
    Command.Open(quickly(0, 3)),
    Command.Crash({ server: 0, calls: 0, moment: "before" }),
    Command.Archive(quickly(1, 0)),
    Command.Unarchive(quickly(1, 0)),
    Command.Open(quickly(2, 0)),
    Command.Archive(quickly(2, 100)),
    Command.Open(quickly(1, 0)),
    wait(1)
  ],
  "a late observation by a server that has lost its lease": [
    Command.Open(quickly(1, 0)),
    Command.Archive(quickly(0, 0)),
    Command.Trouble({ method: "find", trouble: Trouble.Slow({ before: 2000, after: 0 }) }),
    Command.Hibernate(quickly(0, 0)),
    Command.Open(quickly(2, 1500)),
    Command.Open(quickly(0, 0)),
    Command.Unarchive(quickly(1, 1500)),
    Command.Open(quickly(0, 0)),
    Command.Run({ ...quickly(0, 0), seconds: 20 })
  ]
}

describe("Sessions", () => {
  for (const [what, history] of Object.entries(once)) {
    it.live(`keep their invariants during ${what}`, () => simulate(history))
  }

  it("keep their invariants under any history of three servers and their provider", async () => {
    await fc.assert(
      fc.asyncProperty(history, (history) => Effect.runPromise(simulate(history))),
      { numRuns: runs, seed: 1 }
    )
  })

  for (const [what, { breaking, history }] of Object.entries(broken)) {
    it.live(`violate an invariant that the model detects with ${what}`, () =>
      Effect.gen(function* () {
        const exit = yield* Effect.exit(simulate(history, breaking))
        assert.isTrue(Exit.isFailure(exit), "nothing was found")
        assert.match(String(exit), /Violation/)
        yield* simulate(history)
      })
    )
  }

  it("the search finds by itself that writes without a version check break the invariants", async () => {
    const { breaking } = broken["a transition that is written without a version check"]!
    const property = fc.asyncProperty(history, (history) => Effect.runPromise(simulate(history, breaking)))
    const { failed } = await fc.check(property, { numRuns: runs, seed: 1, endOnFailure: true })
    assert.isTrue(failed)
  })
})
