import {
  AppTransition,
  applyAppTransition,
  allowedTransitions,
  createdEvent
} from "@castellan/domain/app/AppLifecycle.ts"
import { AppSandbox, AppState } from "@castellan/domain/app/AppSandbox.ts"
import { type AppDecision, decide } from "@castellan/domain/app/decide.ts"
import { defaultTimes } from "@castellan/domain/app/AppTimes.ts"
import { AccountId } from "@castellan/domain/identity/Account.ts"
import { Port } from "@castellan/domain/sandbox/Port.ts"
import { Sandbox, type SandboxStatus } from "@castellan/domain/sandbox/Sandbox.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Option } from "effect"

const at = (millis: number) => DateTime.makeUnsafe(millis)
const now = at(1_000_000)

const app = (state: AppState) =>
  new AppSandbox({
    name: SandboxName.make("app-x"),
    account: AccountId.make("00000000-0000-4000-8000-000000000000"),
    state,
    version: 4,
    port: Port.make(5173),
    createdAt: at(1),
    expiresAt: at(2),
    nextCheckAt: at(3),
    reason: "before"
  })

const moves: ReadonlyArray<AppTransition> = [
  AppTransition.RenewLease({ leaseExpiresAt: at(10) }),
  AppTransition.Serve({ expiresAt: at(20) }),
  AppTransition.MarkStopped({ reason: { code: "stopped", sentence: "Its time was up" }, nextCheckAt: at(30) }),
  AppTransition.Terminate({
    reason: { code: "replaced", sentence: "Another app took its place" },
    leaseExpiresAt: at(40)
  }),
  AppTransition.MarkEnded()
]

const states = AppState.literals

const told = (state: AppState, move: AppTransition) =>
  Option.map(
    applyAppTransition(app(state), move, now),
    ({ after: app, event }) => [app.state, event?.type ?? null] as const
  )

describe("The transitions of an app", () => {
  it("are exactly these", () => {
    const all = states.flatMap((state) =>
      moves.flatMap((move) =>
        Option.toArray(Option.map(told(state, move), ([next, event]) => `${state} ${move._tag} ${next} ${event}`))
      )
    )
    assert.deepStrictEqual(all, [
      "starting RenewLease starting null",
      "starting Serve ready sandbox.running",
      "starting Terminate ending sandbox.stopping",
      "ready Serve ready null",
      "ready MarkStopped stopped sandbox.stopped",
      "ready Terminate ending sandbox.stopping",
      "stopped Serve ready sandbox.running",
      "stopped Terminate ending sandbox.stopping",
      "ending RenewLease ending null",
      "ending MarkEnded ended sandbox.removed"
    ])
    for (const move of moves) assert.isNotEmpty(Object.keys(allowedTransitions[move._tag]))
  })

  it("increase the version by one and emit the declared event", () => {
    for (const state of states) {
      for (const move of moves) {
        const step = Option.getOrUndefined(applyAppTransition(app(state), move, now))
        if (step === undefined) continue
        assert.strictEqual(step.after.version, 5)
        assert.isTrue(step.isApplied)
        if (step.event !== null) {
          assert.deepStrictEqual([step.event.at, step.event.reason, step.event.session], [now, step.after.reason, null])
        }
      }
    }
  })

  it("gives each event the code of its transition, and the event of a new app the code created", () => {
    const codes = states.flatMap((state) =>
      moves.flatMap((move) =>
        Option.toArray(applyAppTransition(app(state), move, now)).flatMap(({ event }) =>
          event === null ? [] : [`${state} ${move._tag} ${event.code}`]
        )
      )
    )
    assert.deepStrictEqual(codes, [
      "starting Serve started",
      "starting Terminate replaced",
      "ready MarkStopped stopped",
      "ready Terminate replaced",
      "stopped Serve started",
      "stopped Terminate replaced",
      "ending MarkEnded removed"
    ])
    const created = createdEvent(app("starting"))
    assert.deepStrictEqual([created.type, created.code], ["sandbox.pending", "created"])
  })

  it("end in a state without a next check, and all other states have one", () => {
    for (const state of states) {
      for (const move of moves) {
        const step = Option.getOrUndefined(applyAppTransition(app(state), move, now))
        if (step !== undefined) assert.strictEqual(step.after.nextCheckAt === null, step.after.state === "ended")
      }
    }
  })
})

const found = (status: SandboxStatus) =>
  Option.some(
    new Sandbox({
      name: SandboxName.make("app-x"),
      status,
      createdAt: at(1),
      incarnation: "first",
      expiresAt: at(2_000_000),
      reason: status === "running" ? null : "Its time was up"
    })
  )

const said = (look: AppDecision): string => (look._tag === "Apply" ? look.move._tag : look._tag)

describe("The reconciler's decision on an app", () => {
  it("follows from its state and its sandbox", () => {
    const seen = {
      runs: found("running"),
      stopped: found("stopped"),
      failed: found("failed"),
      gone: Option.none<Sandbox>()
    }
    const table = Object.fromEntries(
      states.map((state) => [
        state,
        Object.values(seen).map((sandbox) => said(decide(app(state), sandbox, defaultTimes, now)))
      ])
    )
    assert.deepStrictEqual(table, {
      starting: ["Terminate", "Terminate", "Terminate", "Terminate"],
      ready: ["Serve", "MarkStopped", "MarkStopped", "Terminate"],
      stopped: ["Serve", "Terminate", "Terminate", "Terminate"],
      ending: ["RemoveSandbox", "RemoveSandbox", "RemoveSandbox", "RemoveSandbox"],
      ended: ["Nothing", "Nothing", "Nothing", "Nothing"]
    })
  })

  it("checks a running app at the end of its sandbox, and a stopped one at the end of its retention", () => {
    const runs = decide(app("ready"), found("running"), defaultTimes, now)
    assert.deepStrictEqual(runs, {
      _tag: "Apply",
      move: AppTransition.Serve({ expiresAt: at(2_000_000) })
    } as AppDecision)
    const stopped = decide(app("ready"), found("stopped"), defaultTimes, now)
    const lookAt = DateTime.addDuration(now, defaultTimes.keepStopped)
    assert.deepStrictEqual(stopped, {
      _tag: "Apply",
      move: AppTransition.MarkStopped({ reason: { code: "stopped", sentence: "Its time was up" }, nextCheckAt: lookAt })
    } as AppDecision)
  })
})
