import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SessionTransition } from "@castellan/domain/session/SessionLifecycle.ts"
import * as given from "../../given.ts"
import { at } from "../fixtures.ts"

export const hibernatedSession = (scope: AccountScope) =>
  given.session(scope, {
    lifecycle: given.lifecycle({ state: "hibernated", sandbox: SandboxName.make("ses_x"), version: 4 })
  })

export const restore = SessionTransition.Restore({ leaseExpiresAt: at(5000), lost: false })
