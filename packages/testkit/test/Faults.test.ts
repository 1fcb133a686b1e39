import { AccountStore } from "@castellan/domain/account/AccountStore.ts"
import { AppStore } from "@castellan/domain/app/AppStore.ts"
import { EnvironmentStore } from "@castellan/domain/account/EnvironmentStore.ts"
import { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import { BaseImageStore } from "@castellan/domain/sandbox/BaseImageStore.ts"
import { EventStore } from "@castellan/domain/sandbox/EventStore.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { SessionStore } from "@castellan/domain/session/SessionStore.ts"
import { TaskRunner } from "@castellan/domain/task/TaskRunner.ts"
import { TaskRunStore } from "@castellan/domain/task/TaskRunStore.ts"
import * as AccountContract from "@castellan/testkit/contracts/AccountStore/contract.ts"
import * as AppContract from "@castellan/testkit/contracts/AppStore/contract.ts"
import * as BaseImageContract from "@castellan/testkit/contracts/BaseImageStore/contract.ts"
import * as EnvironmentContract from "@castellan/testkit/contracts/EnvironmentStore/contract.ts"
import * as EventContract from "@castellan/testkit/contracts/EventStore/contract.ts"
import * as IdentityContract from "@castellan/testkit/contracts/IdentityStore/contract.ts"
import * as RepoContract from "@castellan/testkit/contracts/RepoHost/contract.ts"
import * as ProviderContract from "@castellan/testkit/contracts/SandboxProvider/contract.ts"
import { contractLimits } from "@castellan/testkit/contracts/RepoHost/contractLimits.ts"
import * as SessionContract from "@castellan/testkit/contracts/SessionStore/contract.ts"
import * as TaskRunnerContract from "@castellan/testkit/contracts/TaskRunner/contract.ts"
import * as TaskRunStoreContract from "@castellan/testkit/contracts/TaskRunStore/contract.ts"
import { author } from "../src/fakes/repo/MemoryAuthor.ts"
import * as MemoryRepoHost from "../src/fakes/repo/MemoryRepoHost.ts"
import * as Faults from "@castellan/testkit/Faults.ts"
import * as given from "@castellan/testkit/given.ts"
import { asSteps } from "@castellan/testkit/Program.ts"
import * as World from "@castellan/testkit/World.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Layer } from "effect"

const ports = Layer.mergeAll(
  Faults.around(AccountStore, "AccountStore"),
  Faults.around(EnvironmentStore, "EnvironmentStore"),
  Faults.around(SessionStore, "SessionStore"),
  Faults.around(AppStore, "AppStore"),
  Faults.around(EventStore, "EventStore"),
  Faults.around(BaseImageStore, "BaseImageStore"),
  Faults.around(SandboxProvider, "SandboxProvider"),
  Faults.around(RepoHost, "RepoHost"),
  Faults.around(TaskRunner, "TaskRunner"),
  Faults.around(TaskRunStore, "TaskRunStore")
).pipe(Layer.provideMerge(Layer.merge(World.layer, Faults.Faults.layer)))

// Without a planned fault, a decorated port meets its contract.
IdentityContract.contract(
  "memory, behind Faults",
  Faults.around(IdentityStore, "IdentityStore").pipe(Layer.provideMerge(Layer.merge(World.layer, Faults.Faults.layer)))
)
AccountContract.contract("memory, behind Faults", ports)
EnvironmentContract.contract("memory, behind Faults", ports)
SessionContract.contract("memory, behind Faults", ports)
AppContract.contract("memory, behind Faults", ports)
EventContract.contract("memory, behind Faults", ports)
BaseImageContract.contract("memory, behind Faults", ports)
TaskRunStoreContract.contract("memory, behind Faults", ports)
TaskRunnerContract.contract("memory, behind Faults", ports)
ProviderContract.contract("memory, behind Faults", ports, asSteps)
const repositories = Faults.around(RepoHost, "RepoHost").pipe(
  Layer.provideMerge(Layer.merge(MemoryRepoHost.layerWith({ treeLimits: contractLimits }), Faults.Faults.layer))
)
RepoContract.contract("memory, behind Faults", repositories, author, (repo, bundle) =>
  Effect.flatMap(MemoryRepoHost.MemoryRepos, (repos) => repos.publish(repo, bundle))
)

describe("A planned fault", () => {
  const everything = { limit: 10, cursor: null }

  it.effect("before a call prevents that call and all later ones until the fault is removed", () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const faults = yield* Faults.Faults
      const scope = yield* given.scope
      faults.crashAt(1, "before")
      yield* store.list(scope, everything)
      assert.isTrue(Exit.isFailure(yield* Effect.exit(store.list(scope, everything))))
      assert.isTrue(Exit.isFailure(yield* Effect.exit((yield* TaskRunStore).list(scope, everything))))
      faults.heal()
      yield* store.list(scope, everything)
      assert.deepStrictEqual(faults.calls, ["AccountStore.list", "AccountStore.list", "AccountStore.list"])
    }).pipe(Effect.provide(ports))
  )

  it.effect("after a call lets the port run it and loses the result", () =>
    Effect.gen(function* () {
      const faults = yield* Faults.Faults
      const provider = yield* SandboxProvider
      faults.crashAt(0, "after")
      const removed = yield* Effect.exit(provider.remove("sbx_x" as never))
      assert.isTrue(Exit.isFailure(removed))
      assert.deepStrictEqual(faults.calls, ["SandboxProvider.remove"])
    }).pipe(Effect.provide(ports))
  )
})
