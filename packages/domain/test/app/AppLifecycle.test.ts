import { AppMove, AppStep, legal } from "@castellan/domain/app/AppLifecycle.ts"
import { AppSandbox, AppState } from "@castellan/domain/app/AppSandbox.ts"
import { type Look, decide } from "@castellan/domain/app/decide.ts"
import { usualTimes } from "@castellan/domain/app/AppTimes.ts"
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
    lookAt: at(3),
    reason: "before"
  })

const moves: ReadonlyArray<AppMove> = [
  AppMove.Hold({ until: at(10) }),
  AppMove.Serve({ expiresAt: at(20) }),
  AppMove.Sleep({ reason: "Its time was up", lookAt: at(30) }),
  AppMove.End({ reason: "Another app took its place", until: at(40) }),
  AppMove.Forget()
]

const states = AppState.literals

const told = (state: AppState, move: AppMove) =>
  Option.map(AppStep.of(app(state), move, now), ({ app, event }) => [app.state, event?.type ?? null] as const)

describe("What may become of an app", () => {
  it("is this, and nothing else", () => {
    const all = states.flatMap((state) =>
      moves.flatMap((move) =>
        Option.toArray(Option.map(told(state, move), ([next, event]) => `${state} ${move._tag} ${next} ${event}`))
      )
    )
    assert.deepStrictEqual(all, [
      "starting Hold starting null",
      "starting Serve ready sandbox.running",
      "starting End ending sandbox.stopping",
      "ready Serve ready null",
      "ready Sleep stopped sandbox.stopped",
      "ready End ending sandbox.stopping",
      "stopped Serve ready sandbox.running",
      "stopped End ending sandbox.stopping",
      "ending Hold ending null",
      "ending Forget ended sandbox.removed"
    ])
    for (const move of moves) assert.isAbove(legal[move._tag].length, 0)
  })

  it("is one version on, and tells of itself what the move says", () => {
    for (const state of states) {
      for (const move of moves) {
        const step = Option.getOrUndefined(AppStep.of(app(state), move, now))
        if (step === undefined) continue
        assert.strictEqual(step.app.version, 5)
        assert.isTrue(step.isStep)
        if (step.event !== null) {
          assert.deepStrictEqual([step.event.at, step.event.reason, step.event.session], [now, step.app.reason, null])
        }
      }
    }
  })

  it("ends in nothing to look at, and in between there is always a time to look", () => {
    for (const state of states) {
      for (const move of moves) {
        const step = Option.getOrUndefined(AppStep.of(app(state), move, now))
        if (step !== undefined) assert.strictEqual(step.app.lookAt === null, step.app.state === "ended")
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

const said = (look: Look): string => (look._tag === "Write" ? look.move._tag : look._tag)

describe("Whoever looks at an app", () => {
  it("does what its state and its sandbox ask for", () => {
    const seen = {
      runs: found("running"),
      stopped: found("stopped"),
      failed: found("failed"),
      gone: Option.none<Sandbox>()
    }
    const table = Object.fromEntries(
      states.map((state) => [
        state,
        Object.values(seen).map((sandbox) => said(decide(app(state), sandbox, usualTimes, now)))
      ])
    )
    assert.deepStrictEqual(table, {
      starting: ["End", "End", "End", "End"],
      ready: ["Serve", "Sleep", "Sleep", "End"],
      stopped: ["Serve", "End", "End", "End"],
      ending: ["Finish", "Finish", "Finish", "Finish"],
      ended: ["Leave", "Leave", "Leave", "Leave"]
    })
  })

  it("lets one that runs be until its provider would stop it, and one that stopped be for as long as files are kept", () => {
    const runs = decide(app("ready"), found("running"), usualTimes, now)
    assert.deepStrictEqual(runs, { _tag: "Write", move: AppMove.Serve({ expiresAt: at(2_000_000) }) } as Look)
    const stopped = decide(app("ready"), found("stopped"), usualTimes, now)
    const lookAt = DateTime.addDuration(now, usualTimes.keepStopped)
    assert.deepStrictEqual(stopped, {
      _tag: "Write",
      move: AppMove.Sleep({ reason: "Its time was up", lookAt })
    } as Look)
  })
})
