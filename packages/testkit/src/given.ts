/** Values for tests that need one but do not care which. */
import {
  type AppliedAppTransition,
  type AppTransition,
  applyAppTransition
} from "@castellan/domain/app/AppLifecycle.ts"
import { AppSandbox } from "@castellan/domain/app/AppSandbox.ts"
import { Account, AccountId } from "@castellan/domain/identity/Account.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { CurrentActor } from "@castellan/domain/identity/CurrentActor.ts"
import { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { PlatformAdmin } from "@castellan/domain/identity/PlatformAdmin.ts"
import { Port } from "@castellan/domain/sandbox/Port.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { queued, RunId, type TaskName, type TaskRun } from "@castellan/domain/task/TaskRun.ts"
import {
  type AppliedSessionTransition,
  applySessionTransition,
  type SessionTransition
} from "@castellan/domain/session/SessionLifecycle.ts"
import { Lifecycle, Session, SessionId, unopened } from "@castellan/domain/session/Session.ts"
import { DateTime, Effect, Option, type Schema } from "effect"
import { SecureRandom } from "effect/crypto"

/** Adds a new account. */
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

/** Adds a new account and returns its scope. */
export const scope = Effect.map(account(), ({ id }) => AccountScope.ofOwner({ account: id }))

/** Adds a platform admin and returns the proof of being one. */
export const platformAdmin = Effect.flatMap(account({ platformAdmin: true }), (admin) =>
  Effect.orDie(Effect.provideService(PlatformAdmin.proof, CurrentActor, admin))
)

/** A new run of the scope's account, by default of a task that no worker processes. */
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

/** The lifecycle of a session that was not opened, with changes. */
export const lifecycle = (more: Partial<Lifecycle> = {}): Lifecycle => new Lifecycle({ ...unopened, ...more })

/** A new session of the scope's account, by default not opened. */
export const session = (scope: AccountScope, more: Partial<Session> = {}): Session =>
  new Session({
    id: SessionId.make(SecureRandom.uuidV4Unsafe()),
    account: scope.account,
    title: "some work",
    status: "running",
    organization: null,
    repo: null,
    ephemeral: false,
    createdAt: DateTime.makeUnsafe(1_700_000_000_123),
    updatedAt: DateTime.makeUnsafe(1_700_000_000_123),
    lifecycle: unopened,
    ...more
  })

/** The transition of a session for a move. Throws if the move is not allowed. */
export const step = (
  session: Session,
  move: SessionTransition,
  at = DateTime.makeUnsafe(1_700_000_001_456)
): AppliedSessionTransition => Option.getOrThrow(applySessionTransition(session, move, at))

/** A new app of the scope's account, by default starting and never due. */
export const app = (scope: AccountScope, more: Partial<AppSandbox> = {}): AppSandbox =>
  new AppSandbox({
    name: SandboxName.make(`app-${SecureRandom.uuidV4Unsafe().replaceAll("-", "")}`),
    account: scope.account,
    state: "starting",
    version: 0,
    port: Port.make(3000),
    createdAt: DateTime.makeUnsafe(1_700_000_000_123),
    expiresAt: null,
    nextCheckAt: null,
    reason: null,
    ...more
  })

/** The transition of an app for a move. Throws if the move is not allowed. */
export const appStep = (
  app: AppSandbox,
  move: AppTransition,
  at = DateTime.makeUnsafe(1_700_000_001_456)
): AppliedAppTransition => Option.getOrThrow(applyAppTransition(app, move, at))
