/** Sessions in every state, for tests. */
import { AccountId } from "@castellan/domain/identity/Account.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import type { SessionState } from "../../src/session/SessionLifecycle.ts"
import { Lifecycle, Session, SessionId, unopened } from "@castellan/domain/session/Session.ts"
import { DateTime } from "effect"

export const stages: ReadonlyArray<SessionState> = [
  "none",
  "provisioning",
  "active",
  "hibernating",
  "hibernated",
  "restoring",
  "archived",
  "failed"
]

export const sandboxOf = SandboxName.make("ses_1")

export const at = (millis: number): DateTime.Utc => DateTime.makeUnsafe(millis)

type More = Partial<Omit<Session, "lifecycle">> & { readonly lifecycle?: Partial<Lifecycle> }

/** A session in this state as transitions would have made it, except for the given fields. */
export const sessionIn = (stage: SessionState, { lifecycle, ...more }: More = {}): Session => {
  const isOpened = stage !== "none" && stage !== "provisioning"
  const isActive = stage === "active"
  return new Session({
    id: SessionId.make("00000000-0000-4000-8000-000000000001"),
    account: AccountId.make("00000000-0000-4000-8000-000000000002"),
    title: "title",
    status: stage === "archived" ? "archived" : "running",
    organization: null,
    repo: null,
    ephemeral: false,
    createdAt: at(0),
    updatedAt: at(0),
    ...more,
    lifecycle: new Lifecycle({
      ...unopened,
      state: stage === "none" ? null : stage,
      version: 7,
      sandbox: stage === "none" ? null : sandboxOf,
      needsCheckout: !isOpened,
      incarnation: isActive || stage === "hibernating" ? "run-1" : null,
      hibernateAfter: isActive ? at(500_000) : null,
      sandboxExpiresAt: isActive ? at(1_000_000) : null,
      nextCheckAt: ["provisioning", "restoring", "hibernating", "active"].includes(stage) ? at(60_000) : null,
      attempt: stage === "provisioning" || stage === "restoring" ? 1 : 0,
      ...lifecycle
    })
  })
}
