/** Checks that every store method requires a scope. The type assertions are checked by `npm run check`. */
import type { AccountStore } from "@castellan/domain/account/AccountStore.ts"
import type { AppliedAppTransition } from "@castellan/domain/app/AppLifecycle.ts"
import type { AppStore } from "@castellan/domain/app/AppStore.ts"
import type { EnvironmentStore } from "@castellan/domain/account/EnvironmentStore.ts"
import type { AccountId } from "@castellan/domain/identity/Account.ts"
import type { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import type { IdempotencyStore } from "@castellan/domain/identity/IdempotencyStore.ts"
import type { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import type { PlatformAdmin } from "@castellan/domain/identity/PlatformAdmin.ts"
import type { BaseImageStore } from "@castellan/domain/sandbox/BaseImageStore.ts"
import type { EventStore } from "@castellan/domain/sandbox/EventStore.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import type { SnapshotKey } from "../src/account/SnapshotRecord.ts"
import type { AppliedSessionTransition } from "@castellan/domain/session/SessionLifecycle.ts"
import type { SessionId } from "@castellan/domain/session/Session.ts"
import type { SessionStore } from "@castellan/domain/session/SessionStore.ts"
import type { RunId } from "@castellan/domain/task/TaskRun.ts"
import type { TaskRunStore } from "@castellan/domain/task/TaskRunStore.ts"
import { assert, it } from "@effect/vitest"
import { readdirSync } from "node:fs"
import { basename } from "node:path"
import { fileURLToPath } from "node:url"

/** Every store with its methods that need no scope, because only the server itself calls them. */
interface Unscoped {
  AccountStore: [AccountStore["Service"], "countLive" | "listUnfinished" | "listExpired"]
  AppStore: [AppStore["Service"], "claimDue" | "ownerOf"]
  BaseImageStore: [BaseImageStore["Service"], keyof BaseImageStore["Service"]]
  EnvironmentStore: [EnvironmentStore["Service"], "listUnneeded"]
  EventStore: [EventStore["Service"], "sweep"]
  IdempotencyStore: [IdempotencyStore["Service"], "sweep"]
  IdentityStore: [
    IdentityStore["Service"],
    (
      | "addAccount"
      | "findAccount"
      | "findExisting"
      | "findPlatformAdmin"
      | "findKey"
      | "recordUse"
      | "relationshipBetween"
    )
  ]
  SessionStore: [SessionStore["Service"], "claimDue" | "ownerOf"]
  TaskRunStore: [TaskRunStore["Service"], never]
}

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false

/** Whether the first parameter is required and is exactly a scope or a platform admin's proof. */
type IsScoped<Member> = Member extends (...given: infer Given) => unknown
  ? Given extends readonly [infer First, ...ReadonlyArray<unknown>]
    ? Same<First, AccountScope> extends true
      ? true
      : Same<First, PlatformAdmin>
    : false
  : false

type UnscopedOf<Store> = { [Name in keyof Store]: IsScoped<Store[Name]> extends true ? never : Name }[keyof Store]

type AsDeclared = { readonly [Name in keyof Unscoped]: Same<UnscopedOf<Unscoped[Name][0]>, Unscoped[Name][1]> }

const asDeclared: AsDeclared = {
  AccountStore: true,
  AppStore: true,
  BaseImageStore: true,
  EnvironmentStore: true,
  EventStore: true,
  IdempotencyStore: true,
  IdentityStore: true,
  SessionStore: true,
  TaskRunStore: true
}

/** Never called: none of these lines may compile. */
export const withoutScope = (
  accounts: AccountStore["Service"],
  environments: EnvironmentStore["Service"],
  runs: TaskRunStore["Service"],
  sessions: SessionStore["Service"],
  events: EventStore["Service"],
  lookalike: { readonly account: AccountId },
  name: SandboxName,
  run: RunId,
  key: SnapshotKey,
  session: SessionId
) => [
  // @ts-expect-error a row can't be read by its name alone
  accounts.get(name),
  // @ts-expect-error an object with an account is not a scope
  accounts.get(lookalike, name),
  // @ts-expect-error an account's id is not a scope
  accounts.list(lookalike.account, { limit: 1, cursor: null }),
  // @ts-expect-error an environment can't be read without a scope
  environments.get(),
  // @ts-expect-error a snapshot can't be deleted by its key alone
  environments.deleteSnapshot(key),
  // @ts-expect-error a run can't be read by its id alone
  runs.get(run),
  // @ts-expect-error a session can't be read by its id alone
  sessions.get(session),
  // @ts-expect-error events can't be read without a scope
  events.read(null, 1)
]

/** Never called: a session store writes only transitions that were checked to be allowed. */
export const withoutStep = (sessions: SessionStore["Service"], scope: AccountScope, step: AppliedSessionTransition) => [
  sessions.compareAndSet(scope, step),
  // @ts-expect-error a session is not a transition
  sessions.compareAndSet(scope, step.session),
  // @ts-expect-error an object of the same shape is not a transition
  sessions.compareAndSet(scope, { session: step.session, event: step.event, isStep: true }),
  // @ts-expect-error a copy of a transition is not one
  sessions.compareAndSet(scope, { ...step })
]

/** Never called: the same for the store of apps. */
export const withoutAppStep = (apps: AppStore["Service"], scope: AccountScope, step: AppliedAppTransition) => [
  apps.compareAndSet(scope, [step]),
  // @ts-expect-error an app is not a transition
  apps.compareAndSet(scope, [step.app]),
  // @ts-expect-error an object of the same shape is not a transition
  apps.compareAndSet(scope, [{ app: step.app, event: step.event, isStep: true }]),
  // @ts-expect-error a copy of a transition is not one
  apps.compareAndSet(scope, [{ ...step }])
]

it("every store of the domain is checked", () => {
  const source = fileURLToPath(new URL("../src", import.meta.url))
  const stores = readdirSync(source, { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith("Store.ts"))
    .map((file) => basename(file, ".ts"))
  assert.sameMembers(stores, Object.keys(asDeclared))
})
