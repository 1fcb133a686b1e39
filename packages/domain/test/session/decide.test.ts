import {
  attempts,
  decide,
  nextCheckFor,
  Decision,
  type DecisionInput,
  type SessionTimes,
  ObservedState,
  defaultTimes
} from "@castellan/domain/session/decide.ts"
import type { SessionState } from "../../src/session/SessionLifecycle.ts"
import { assert, describe, it } from "@effect/vitest"
import { Duration } from "effect"
import { at, sessionIn, stages } from "./lifecycles.ts"

const now = 10_000_000

const minute = 60_000

/** When an active session is idle, and when its sandbox ends: on both sides of each threshold. */
const deadlines = {
  early: { idleAt: now + 3 * minute, expiresAt: now + 20 * minute },
  idle: { idleAt: now, expiresAt: now + 20 * minute },
  almostIdle: { idleAt: now + 1, expiresAt: now + 20 * minute },
  ending: { idleAt: now + 3 * minute, expiresAt: now + 10_000 },
  almostEnding: { idleAt: now + 3 * minute, expiresAt: now + 10_001 },
  soon: { idleAt: now + 3 * minute, expiresAt: now + 3 * minute + 10_000 },
  notSoon: { idleAt: now + 3 * minute, expiresAt: now + 3 * minute + 10_001 },
  both: { idleAt: now - minute, expiresAt: now - 1 }
}
type Deadline = keyof typeof deadlines

const sights = {
  Unknown: () => ObservedState.Unknown(),
  Gone: () => ObservedState.Gone(),
  Stopped: () => ObservedState.Stopped({ reason: "Its time was up" }),
  StoppedSilently: () => ObservedState.Stopped({ reason: null }),
  Running: (deadline: Deadline) =>
    ObservedState.Running({ incarnation: "run-1", expiresAt: at(deadlines[deadline].expiresAt) })
}
type Seeing = keyof typeof sights

interface Situation {
  readonly stage: SessionState
  readonly seeing: Seeing
  readonly deadline: Deadline
  readonly live: boolean
  readonly attempt: number
  readonly ephemeral: boolean
  readonly archived: boolean
  /** Whether a caller requested the check. */
  readonly due: boolean
}

const booleans = [false, true]

/** Every combination, however unlikely. */
const situations: ReadonlyArray<Situation> = stages.flatMap((stage) =>
  (Object.keys(sights) as Array<Seeing>).flatMap((seeing) =>
    (Object.keys(deadlines) as Array<Deadline>).flatMap((deadline) =>
      booleans.flatMap((live) =>
        [0, 1, attempts - 1, attempts, attempts + 1].flatMap((attempt) =>
          booleans.flatMap((ephemeral) =>
            booleans.flatMap((archived) =>
              booleans.map((due) => ({ stage, seeing, deadline, live, attempt, ephemeral, archived, due }))
            )
          )
        )
      )
    )
  )
)

const seen = ({ archived, attempt, deadline, due, ephemeral, live, seeing, stage }: Situation): DecisionInput => ({
  session: sessionIn(stage, {
    ephemeral,
    status: archived ? "archived" : "running",
    lifecycle: { attempt, nextCheckAt: due ? at(now) : null, hibernateAfter: at(deadlines[deadline].idleAt) }
  }),
  observed: sights[seeing](deadline),
  live,
  now: at(now)
})

const inALease = Decision.Wait({ until: at(now + minute) })

/** The decision for an active session with a running sandbox: with a live run, and without. */
const whileRunning: Record<Deadline, { readonly still: Decision; readonly live: Decision }> = {
  early: { still: Decision.Wait({ until: at(now + minute) }), live: Decision.Wait({ until: at(now + minute) }) },
  almostIdle: { still: Decision.Wait({ until: at(now + 1) }), live: Decision.Wait({ until: at(now + 1) }) },
  soon: { still: Decision.Wait({ until: at(now + minute) }), live: Decision.Extend() },
  notSoon: { still: Decision.Wait({ until: at(now + minute) }), live: Decision.Wait({ until: at(now + minute) }) },
  almostEnding: { still: Decision.Wait({ until: at(now + 1) }), live: Decision.Extend() },
  idle: {
    still: Decision.Hibernate({ reason: { code: "idle_timeout", sentence: "Nobody used it for a while" } }),
    live: Decision.KeepAwake({ expiresAt: at(now + 20 * minute) })
  },
  ending: {
    still: Decision.Hibernate({ reason: { code: "lifetime_over", sentence: "Its time was nearly up" } }),
    live: Decision.Extend()
  },
  both: {
    still: Decision.Hibernate({ reason: { code: "idle_timeout", sentence: "Nobody used it for a while" } }),
    live: Decision.Extend()
  }
}

type Expected = (situation: Situation) => Decision

const stopped: Pick<Record<Seeing, Expected>, "Gone" | "Stopped" | "StoppedSilently" | "Unknown"> = {
  Unknown: () => inALease,
  Gone: () => Decision.MarkLost(),
  Stopped: () => Decision.Hibernated({ reason: { code: "stopped", sentence: "Its time was up" } }),
  StoppedSilently: () => Decision.Hibernated({ reason: { code: "stopped", sentence: "Its provider stopped it" } })
}

const resting: Record<Seeing, Expected> = {
  Unknown: ({ due }) => (due ? inALease : Decision.Nothing()),
  Gone: ({ due }) => (due ? Decision.Settled() : Decision.Nothing()),
  Stopped: ({ due }) => (due ? Decision.Settled() : Decision.Nothing()),
  StoppedSilently: ({ due }) => (due ? Decision.Settled() : Decision.Nothing()),
  Running: ({ due }) => (due ? Decision.StopOrphan({ incarnation: "run-1" }) : Decision.Nothing())
}

const whatever = (expected: Expected): Record<Seeing, Expected> => ({
  Unknown: expected,
  Gone: expected,
  Stopped: expected,
  StoppedSilently: expected,
  Running: expected
})

const onItsWay = whatever(({ attempt }) => (attempt >= 5 ? Decision.GiveUp() : Decision.Provision()))

/** The decision by state and observed sandbox. A missing entry means that nothing is to be done. */
const expected: Record<"forOnce" | "toStay", Record<SessionState, Record<Seeing, Expected>>> = {
  toStay: {
    none: whatever(() => Decision.Nothing()),
    provisioning: onItsWay,
    restoring: onItsWay,
    active: {
      ...stopped,
      Running: ({ deadline, live }) => whileRunning[deadline][live ? "live" : "still"]
    },
    hibernating: { ...stopped, Running: () => Decision.Stop() },
    hibernated: resting,
    failed: resting,
    archived: resting
  },
  forOnce: {
    none: whatever(() => Decision.Archive()),
    provisioning: onItsWay,
    restoring: onItsWay,
    active: {
      ...stopped,
      Running: ({ deadline, live }) => whileRunning[deadline][live ? "live" : "still"]
    },
    hibernating: { ...stopped, Running: () => Decision.Stop() },
    hibernated: whatever(() => Decision.Archive()),
    failed: whatever(() => Decision.Archive()),
    archived: whatever(() => Decision.Remove())
  }
}

describe("The decision on a session", () => {
  it("covers every state, every observation of its sandbox, and every deadline", () => {
    assert.isAbove(situations.length, 15_000)
    for (const situation of situations) {
      const { ephemeral, seeing, stage } = situation
      const wanted = expected[ephemeral ? "forOnce" : "toStay"][stage][seeing](situation)
      assert.deepStrictEqual(decide(seen(situation), defaultTimes), wanted, JSON.stringify(situation))
    }
  })

  it("never stops a sandbox while a live run is in it", () => {
    for (const situation of situations) {
      if (situation.stage !== "active" || !situation.live) continue
      assert.notInclude(["Hibernate", "Stop", "StopOrphan"], decide(seen(situation), defaultTimes)._tag)
    }
  })

  it("is not based on an unreachable provider, except for work that calls the provider again", () => {
    for (const situation of situations) {
      if (situation.seeing !== "Unknown") continue
      const tags = ["Nothing", "Wait", "Provision", "GiveUp", "Archive", "Remove"]
      assert.include(tags, decide(seen(situation), defaultTimes)._tag, JSON.stringify(situation))
    }
  })
})

describe("An active session", () => {
  const times: SessionTimes = { ...defaultTimes, checkEvery: Duration.minutes(1), margin: Duration.seconds(10) }

  it("is checked when it is idle, near its end, or not checked for a while, whichever comes first", () => {
    const look = (idle: number, expires: number) => nextCheckFor(times, at(now + idle), at(now + expires), at(now))
    assert.deepStrictEqual(look(1000, 100_000), at(now + 1000))
    assert.deepStrictEqual(look(30_000, 15_000), at(now + 5000))
    assert.deepStrictEqual(look(300_000, 100_000), at(now + 60_000))
  })
})
