import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { Move } from "@castellan/domain/session/Lifecycle.ts"
import * as given from "../../given.ts"
import { at } from "../fixtures.ts"

export const hibernatedSession = (scope: AccountScope) =>
  given.session(scope, {
    lifecycle: given.lifecycle({ state: "hibernated", sandbox: SandboxName.make("ses_x"), version: 4 })
  })

export const restore = Move.Restore({ until: at(5000), lost: false })
