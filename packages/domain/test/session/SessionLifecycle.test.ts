import { type ChangeCode, userRequested } from "../../src/ChangeReason.ts"
import { BranchName } from "../../src/repo/Repo.ts"
import { SandboxName } from "../../src/sandbox/SandboxName.ts"
import {
  type AppliedSessionTransition,
  applySessionTransition,
  lostReason,
  SessionTransition,
  type SessionState,
  stateOf
} from "../../src/session/SessionLifecycle.ts"
import type { Session } from "../../src/session/Session.ts"
import { assert, describe, it } from "@effect/vitest"
import { Option } from "effect"
import { at, sandboxOf, sessionIn, stages } from "./lifecycles.ts"

const now = at(1_700_000_000_000)
const until = at(1_700_000_060_000)
const idleAt = at(1_700_000_300_000)
const expiresAt = at(1_700_001_800_000)
const lookAt = at(1_700_000_060_000)
const inTwoMinutes = at(1_700_000_120_000)

const branch = BranchName.make("main")

const moves = {
  Provision: SessionTransition.Provision({ sandbox: SandboxName.make("ses_new"), leaseExpiresAt: until }),
  Restore: SessionTransition.Restore({ leaseExpiresAt: until, lost: false }),
  RestoreLost: SessionTransition.Restore({ leaseExpiresAt: until, lost: true }),
  TakeOver: SessionTransition.TakeOverLease({ leaseExpiresAt: until }),
  Run: SessionTransition.Activate({
    incarnation: "run-2",
    expiresAt,
    idleAt,
    nextCheckAt: lookAt,
    workspace: true,
    branch
  }),
  Use: SessionTransition.RecordActivity({ expiresAt, idleAt, nextCheckAt: lookAt, byOwner: true }),
  Stay: SessionTransition.RecordActivity({ expiresAt, idleAt, nextCheckAt: lookAt, byOwner: false }),
  Hibernate: SessionTransition.Hibernate({ leaseExpiresAt: until, reason: { code: "idle_timeout", sentence: "why" } }),
  Sleep: SessionTransition.Hibernated({ reason: { code: "stopped", sentence: "why" } }),
  Lose: SessionTransition.MarkLost({ reason: lostReason }),
  Fail: SessionTransition.Fail({ error: "it broke", code: "internal_error" }),
  Settle: SessionTransition.Settled(),
  Archive: SessionTransition.Archive({ leaseExpiresAt: until, reason: userRequested }),
  Unarchive: SessionTransition.Unarchive()
}
type Name = keyof typeof moves
const names = Object.keys(moves) as Array<Name>

/** The next state of each transition from each state, and its event. Anything else is refused. */
const table: Record<Name, Partial<Record<SessionState, readonly [SessionState, event: string | null]>>> = {
  Provision: { none: ["provisioning", "session.provisioning"], failed: ["provisioning", "session.provisioning"] },
  Restore: {
    active: ["restoring", "session.restoring"],
    hibernated: ["restoring", "session.restoring"],
    failed: ["restoring", "session.restoring"]
  },
  RestoreLost: {
    active: ["restoring", "session.lost"],
    hibernated: ["restoring", "session.lost"],
    failed: ["restoring", "session.lost"]
  },
  TakeOver: {
    provisioning: ["provisioning", null],
    restoring: ["restoring", null],
    hibernating: ["hibernating", null]
  },
  Run: { provisioning: ["active", "session.active"], restoring: ["active", "session.active"] },
  Use: { active: ["active", null] },
  Stay: { active: ["active", null] },
  Hibernate: { active: ["hibernating", "session.hibernating"] },
  Sleep: { active: ["hibernated", "session.hibernated"], hibernating: ["hibernated", "session.hibernated"] },
  Lose: {
    active: ["hibernated", "session.lost"],
    hibernating: ["hibernated", "session.lost"],
    hibernated: ["hibernated", "session.lost"],
    restoring: ["restoring", "session.lost"]
  },
  Fail: { provisioning: ["failed", "session.failed"], restoring: ["failed", "session.failed"] },
  Settle: { hibernated: ["hibernated", null], archived: ["archived", null], failed: ["failed", null] },
  Archive: {
    none: ["archived", "session.archived"],
    provisioning: ["hibernating", "session.hibernating"],
    active: ["hibernating", "session.hibernating"],
    hibernating: ["hibernating", null],
    hibernated: ["archived", "session.archived"],
    restoring: ["hibernating", "session.hibernating"],
    failed: ["hibernating", "session.hibernating"]
  },
  Unarchive: { archived: ["hibernated", "session.hibernated"], hibernating: ["hibernating", null] }
}

/** The allowed transitions of a session that was archived while its sandbox was being stopped. */
const archivedTable: typeof table = {
  Provision: {},
  Restore: {},
  RestoreLost: {},
  TakeOver: { hibernating: ["hibernating", null] },
  Run: {},
  Use: {},
  Stay: {},
  Hibernate: {},
  Sleep: { hibernating: ["archived", "session.archived"] },
  Lose: { hibernating: ["archived", "session.lost"] },
  Fail: {},
  Settle: { archived: ["archived", null] },
  Archive: {},
  Unarchive: { archived: ["hibernated", "session.hibernated"], hibernating: ["hibernating", null] }
}

const stepOf = (session: Session, name: Name) => applySessionTransition(session, moves[name], now)

const led = (step: Option.Option<AppliedSessionTransition>) =>
  Option.getOrUndefined(
    Option.map(step, ({ after, event }) => [stateOf(after), event === null ? null : event.type] as const)
  )

const taken = (session: Session, ...names: ReadonlyArray<Name>): AppliedSessionTransition =>
  names.reduce(
    (step, name) => Option.getOrThrow(stepOf(step?.after ?? session, name)),
    undefined as AppliedSessionTransition | undefined
  )!

const lifecycleOf = (session: Session, ...names: ReadonlyArray<Name>) => taken(session, ...names).after.lifecycle

describe("A transition of a session", () => {
  it("is allowed, leads to a state and emits an event as the table says", () => {
    for (const stage of stages)
      for (const name of names) {
        const session = sessionIn(stage)
        const wanted = (stage === "archived" ? archivedTable : table)[name][stage]
        assert.deepStrictEqual(led(stepOf(session, name)), wanted, `${name} from ${stage}`)
      }
  })

  it("from archived only stops or restores the session", () => {
    for (const stage of ["hibernating", "archived"] as const)
      for (const name of names) {
        const session = sessionIn(stage, { status: "archived" })
        assert.deepStrictEqual(led(stepOf(session, name)), archivedTable[name][stage], `${name} from ${stage}`)
      }
  })

  it("increases the version by one, records the time, and changes only the lifecycle", () => {
    for (const stage of stages)
      for (const name of names) {
        const session = sessionIn(stage)
        const step = stepOf(session, name)
        if (Option.isNone(step)) continue
        const { lifecycle, status, updatedAt, ...rest } = step.value.after
        assert.strictEqual(lifecycle.version, 8)
        assert.deepStrictEqual(updatedAt, now)
        const { lifecycle: _, status: before, updatedAt: __, ...restBefore } = session
        assert.deepStrictEqual(rest, restBefore)
        const wanted = name === "Archive" ? "archived" : name === "Unarchive" ? "running" : before
        assert.strictEqual(status, wanted)
      }
  })

  it("never changes the name of an existing sandbox", () => {
    for (const stage of stages)
      for (const name of names) {
        const session = sessionIn(stage)
        const step = stepOf(session, name)
        if (Option.isNone(step)) continue
        const wanted = session.lifecycle.sandbox ?? (name === "Provision" ? "ses_new" : null)
        assert.strictEqual(step.value.after.lifecycle.sandbox, wanted)
      }
  })

  it("emits an event with the session, its account and its sandbox, with a reason if the owner did not request it", () => {
    const event = taken(sessionIn("active"), "Hibernate").event!
    const { id, account } = sessionIn("active")
    assert.deepStrictEqual(
      { ...event },
      {
        account,
        type: "session.hibernating",
        sandbox: sandboxOf,
        session: id,
        code: "idle_timeout",
        reason: "why",
        at: now
      }
    )
    assert.strictEqual(taken(sessionIn("restoring"), "Fail").event!.reason, "it broke")
    assert.strictEqual(taken(sessionIn("active"), "RestoreLost").event!.reason, lostReason)
    assert.strictEqual(taken(sessionIn("hibernated"), "Lose").event!.reason, lostReason)
    assert.isNull(taken(sessionIn("provisioning"), "Run").event!.reason)
    assert.isNull(taken(sessionIn("active"), "Restore").event!.reason)
  })

  it("gives each event the code of its transition", () => {
    const codes: ReadonlyArray<readonly [SessionState, Name, ChangeCode]> = [
      ["none", "Provision", "user_requested"],
      ["hibernated", "Restore", "user_requested"],
      ["active", "RestoreLost", "provider_lost"],
      ["restoring", "Run", "started"],
      ["active", "Hibernate", "idle_timeout"],
      ["hibernating", "Sleep", "stopped"],
      ["active", "Lose", "provider_lost"],
      ["provisioning", "Fail", "provision_failed"],
      ["active", "Archive", "user_requested"],
      ["archived", "Unarchive", "user_requested"]
    ]
    for (const [state, name, code] of codes) {
      assert.strictEqual(taken(sessionIn(state), name).event!.code, code, `${state} ${name}`)
    }
  })

  it("emits no loss event before the first sandbox was ready", () => {
    const fresh = { lifecycle: { needsCheckout: true } }
    assert.strictEqual(taken(sessionIn("hibernating", fresh), "Lose").event!.type, "session.hibernated")
    assert.strictEqual(taken(sessionIn("failed", fresh), "RestoreLost").event!.type, "session.restoring")
    assert.isNull(taken(sessionIn("hibernated", fresh), "Lose").event)
    assert.isNull(taken(sessionIn("restoring", fresh), "Lose").event)
  })

  it("leases the session to its worker until the given time, and leaves it to the reconciler afterwards", () => {
    assert.deepStrictEqual(lifecycleOf(sessionIn("none"), "Provision").nextCheckAt, until)
    assert.deepStrictEqual(lifecycleOf(sessionIn("hibernated"), "Restore").nextCheckAt, until)
    assert.deepStrictEqual(lifecycleOf(sessionIn("restoring"), "TakeOver").nextCheckAt, until)
    assert.deepStrictEqual(lifecycleOf(sessionIn("active"), "Hibernate").nextCheckAt, until)
    for (const stage of ["provisioning", "active", "hibernating", "restoring", "failed"] as const)
      assert.deepStrictEqual(lifecycleOf(sessionIn(stage), "Archive").nextCheckAt, until)
  })

  it("counts consecutive attempts at provisioning", () => {
    assert.strictEqual(lifecycleOf(sessionIn("none"), "Provision").attempt, 1)
    assert.strictEqual(lifecycleOf(sessionIn("none"), "Provision", "TakeOver", "TakeOver").attempt, 3)
    assert.strictEqual(lifecycleOf(sessionIn("hibernated"), "Restore", "TakeOver").attempt, 2)
    for (const name of ["Run", "Fail"] as const)
      assert.strictEqual(lifecycleOf(sessionIn("none"), "Provision", "TakeOver", name).attempt, 0)
  })
})

describe("A session", () => {
  it("that runs has an incarnation, deadlines, a working tree and a branch", () => {
    const before = sessionIn("restoring").lifecycle
    assert.deepStrictEqual(
      { ...lifecycleOf(sessionIn("restoring"), "Run") },
      {
        ...before,
        state: "active",
        version: 8,
        incarnation: "run-2",
        lastActivityAt: now,
        hibernateAfter: idleAt,
        sandboxExpiresAt: expiresAt,
        nextCheckAt: lookAt,
        needsCheckout: false,
        workspace: true,
        branch,
        attempt: 0
      }
    )
  })

  it("that a run keeps awake has no owner activity recorded", () => {
    assert.deepStrictEqual(lifecycleOf(sessionIn("active"), "Use").lastActivityAt, now)
    assert.isNull(lifecycleOf(sessionIn("active"), "Stay").lastActivityAt)
    assert.deepStrictEqual(lifecycleOf(sessionIn("active"), "Stay").hibernateAfter, idleAt)
  })

  it("that does not run has no deadlines and no incarnation", () => {
    const ways: ReadonlyArray<Session> = [
      taken(sessionIn("active"), "Sleep").after,
      taken(sessionIn("active"), "Lose").after,
      taken(sessionIn("active"), "Hibernate", "Sleep").after,
      taken(sessionIn("active"), "Archive", "Sleep").after,
      taken(sessionIn("active"), "Restore").after,
      taken(sessionIn("active"), "Restore", "Fail").after
    ]
    for (const { lifecycle } of ways) {
      const { hibernateAfter, incarnation, sandboxExpiresAt } = lifecycle
      assert.deepStrictEqual([hibernateAfter, incarnation, sandboxExpiresAt], [null, null, null])
    }
  })

  it("that is hibernating still has the incarnation to stop", () => {
    assert.strictEqual(lifecycleOf(sessionIn("active"), "Hibernate").incarnation, "run-1")
    assert.strictEqual(lifecycleOf(sessionIn("active"), "Archive").incarnation, "run-1")
    assert.strictEqual(lifecycleOf(sessionIn("active"), "Hibernate", "TakeOver").incarnation, "run-1")
  })

  it("that is hibernated is not due, except for one check if a sandbox may have started unnoticed", () => {
    assert.isNull(lifecycleOf(sessionIn("active"), "Hibernate", "Sleep").nextCheckAt)
    assert.isNull(lifecycleOf(sessionIn("active"), "Archive", "Sleep").nextCheckAt)
    assert.isNull(lifecycleOf(sessionIn("active"), "Lose").nextCheckAt)
    assert.isNull(lifecycleOf(sessionIn("none"), "Archive").nextCheckAt)
    const doubtful: ReadonlyArray<Session> = [
      taken(sessionIn("provisioning"), "Fail").after,
      taken(sessionIn("restoring"), "Fail").after,
      taken(sessionIn("provisioning"), "Archive", "Sleep").after,
      taken(sessionIn("restoring"), "Archive", "Lose").after,
      taken(sessionIn("failed"), "Archive", "Sleep").after,
      taken(sessionIn("restoring"), "Archive", "Unarchive", "Sleep").after
    ]
    for (const session of doubtful) {
      assert.deepStrictEqual(session.lifecycle.nextCheckAt, inTwoMinutes)
      const settled = taken(session, "Settle").after
      assert.deepStrictEqual([stateOf(settled), settled.lifecycle.nextCheckAt], [stateOf(session), null])
    }
    const rests = taken(sessionIn("restoring"), "Archive", "Sleep").after
    assert.deepStrictEqual(lifecycleOf(rests, "Unarchive").nextCheckAt, inTwoMinutes)
    assert.deepStrictEqual(lifecycleOf(rests, "Unarchive", "Archive").nextCheckAt, inTwoMinutes)
  })

  it("that is ephemeral is due as soon as it is hibernated", () => {
    const once = { ephemeral: true }
    assert.deepStrictEqual(lifecycleOf(sessionIn("active", once), "Hibernate", "Sleep").nextCheckAt, now)
    assert.deepStrictEqual(lifecycleOf(sessionIn("provisioning", once), "Fail").nextCheckAt, now)
    assert.deepStrictEqual(lifecycleOf(sessionIn("hibernated", once), "Archive").nextCheckAt, now)
    assert.deepStrictEqual(lifecycleOf(sessionIn("none", once), "Archive").nextCheckAt, now)
  })

  it("that lost its sandbox reports this until it is restored, and checks its repository out again", () => {
    const lost = taken(sessionIn("active"), "Lose").after
    assert.deepStrictEqual([lost.lifecycle.needsCheckout, lost.lifecycle.error], [true, lostReason])
    const back = lifecycleOf(lost, "Restore")
    assert.deepStrictEqual([back.needsCheckout, back.error], [true, lostReason])
    assert.strictEqual(lifecycleOf(sessionIn("active"), "RestoreLost").error, lostReason)
    assert.isFalse(lifecycleOf(lost, "Restore", "Run").needsCheckout)
  })

  it("that failed has a reason until it is retried", () => {
    assert.strictEqual(lifecycleOf(sessionIn("restoring"), "Fail").error, "it broke")
    assert.isNull(lifecycleOf(sessionIn("restoring"), "Fail", "Restore").error)
    assert.isNull(lifecycleOf(sessionIn("provisioning"), "Fail", "Provision").error)
  })

  it("that was never opened is unchanged after it was archived and restored", () => {
    assert.strictEqual(stateOf(taken(sessionIn("none"), "Archive", "Unarchive").after), "none")
  })
})
