import { AccountSandbox } from "@castellan/domain/account/AccountSandbox.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SecureRandom } from "effect/crypto"
import { at } from "../fixtures.ts"

export const sandboxOf = (scope: AccountScope, more: Partial<AccountSandbox> = {}) =>
  new AccountSandbox({
    name: SandboxName.make(`sbx_${SecureRandom.uuidV4Unsafe()}`),
    account: scope.account,
    status: "pending",
    createdAt: at(1_700_000_000_123),
    expiresAt: null,
    reason: null,
    removedAt: null,
    ...more
  })

/** More than any clause writes. */
export const many = 1000

export const everything = { limit: 100, cursor: null }
