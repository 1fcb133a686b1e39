/** Things tests need that are of no interest in themselves. */
import { Account, AccountId } from "@castellan/domain/identity/Account.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { CurrentActor } from "@castellan/domain/identity/CurrentActor.ts"
import { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { PlatformAdmin } from "@castellan/domain/identity/PlatformAdmin.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { queued, RunId, type TaskName, type TaskRun } from "@castellan/domain/task/TaskRun.ts"
import { DateTime, Effect, type Schema } from "effect"
import { SecureRandom } from "effect/crypto"

/** An account that nobody else in the test has. */
export const account = Effect.fnUntraced(function* (
  more: { readonly platformAdmin?: boolean; readonly email?: string } = {}
) {
  const account = new Account({
    id: AccountId.make(SecureRandom.uuidV4Unsafe()),
    name: "somebody",
    email: more.email ?? null,
    platformAdmin: more.platformAdmin ?? false,
    createdAt: yield* DateTime.now
  })
  yield* (yield* IdentityStore).addAccount(account)
  return account
})

/** The scope of a new account. */
export const scope = Effect.map(account(), ({ id }) => AccountScope.ofOwner({ account: id }))

/** The proof that a platform admin asks. */
export const platformAdmin = Effect.flatMap(account({ platformAdmin: true }), (admin) =>
  Effect.orDie(Effect.provideService(PlatformAdmin.proof, CurrentActor, admin))
)

/** A run of the scope's account that nobody else has; of a task that nothing works on, unless it says otherwise. */
export const run = (
  scope: AccountScope,
  more: {
    readonly task?: TaskName
    readonly input?: Schema.Json
    readonly sandbox?: SandboxName
    readonly at?: DateTime.Utc
  } = {}
): TaskRun =>
  queued({
    id: RunId.make(`run_${SecureRandom.uuidV4Unsafe().replaceAll("-", "")}`),
    account: scope.account,
    task: more.task ?? "session-lifecycle",
    input: more.input ?? null,
    sandbox: more.sandbox ?? null,
    at: more.at ?? DateTime.makeUnsafe(1_700_000_000_123)
  })
