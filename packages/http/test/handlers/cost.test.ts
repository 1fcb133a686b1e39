import { AccountStore } from "@castellan/domain/account/AccountStore.ts"
import { EnvironmentStore } from "@castellan/domain/account/EnvironmentStore.ts"
import { IdempotencyStore } from "@castellan/domain/identity/IdempotencyStore.ts"
import { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { TaskRunner } from "@castellan/domain/task/TaskRunner.ts"
import { TaskRunStore } from "@castellan/domain/task/TaskRunStore.ts"
import * as Faults from "@castellan/testkit/Faults.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Logger } from "effect"
import { TestClock } from "effect/testing"
import { WebApi } from "../WebApi.ts"

/** Every port behind a decorator that counts calls. */
const counting = Layer.mergeAll(
  Faults.around(AccountStore, "AccountStore"),
  Faults.around(EnvironmentStore, "EnvironmentStore"),
  Faults.around(IdempotencyStore, "IdempotencyStore"),
  Faults.around(IdentityStore, "IdentityStore"),
  Faults.around(RepoHost, "RepoHost"),
  Faults.around(SandboxProvider, "SandboxProvider"),
  Faults.around(TaskRunner, "TaskRunner"),
  Faults.around(TaskRunStore, "TaskRunStore")
).pipe(Layer.provideMerge(Faults.Faults.layer))

const api = Layer.fresh(WebApi.over(counting)).pipe(Layer.provideMerge(Logger.layer([])))

/** The calls of ports by a request, sorted by name. */
const callsOf = Effect.fnUntraced(function* <A, E, R>(request: Effect.Effect<A, E, R>) {
  const faults = yield* Faults.Faults
  const before = faults.calls.length
  yield* request
  return faults.calls.slice(before).toSorted()
})

const settle = Effect.gen(function* () {
  for (let second = 0; second < 10; second++) yield* TestClock.adjust("1 second")
})

describe("The calls of ports by a request", () => {
  it.effect(
    "to list sandboxes: three queries of the store, one of the provider and one of the repository, for any number",
    () =>
      Effect.gen(function* () {
        const { ask, join } = yield* WebApi
        const { key } = yield* join()
        yield* ask("POST", "/api/sandboxes/setup", { key })
        yield* settle
        const list = ask("GET", "/api/sandboxes", { key })
        yield* list
        const cached = [
          "AccountStore.list",
          "EnvironmentStore.get",
          "IdentityStore.findKey",
          "SandboxProvider.findMany"
        ]
        assert.deepStrictEqual(yield* callsOf(list), cached)
        for (let n = 0; n < 30; n++) yield* ask("POST", "/api/sandboxes", { key })
        assert.deepStrictEqual(yield* callsOf(list), cached)
        yield* TestClock.adjust("20 seconds")
        const { json } = yield* list
        assert.strictEqual(json.sandboxes.length, 31)
        assert.isNotNull(json.filetree)
        yield* TestClock.adjust("20 seconds")
        const revalidated = yield* callsOf(list)
        assert.deepStrictEqual(
          revalidated.filter((call) => call.startsWith("RepoHost")),
          ["RepoHost.tree"]
        )
      }).pipe(Effect.provide(api))
  )

  it.effect("to create a sandbox are its row, the saved snapshot, the provider and the observed state", () =>
    Effect.gen(function* () {
      const { ask, join } = yield* WebApi
      const { key } = yield* join()
      yield* ask("GET", "/api/sandboxes", { key })
      assert.deepStrictEqual(yield* callsOf(ask("POST", "/api/sandboxes", { key })), [
        "AccountStore.add",
        "AccountStore.recordObserved",
        "EnvironmentStore.get",
        "EnvironmentStore.get",
        "IdentityStore.findKey",
        "SandboxProvider.create"
      ])
    }).pipe(Effect.provide(api))
  )

  it.effect("for another account include one query of the membership", () =>
    Effect.gen(function* () {
      const { ask, join } = yield* WebApi
      const [admin, other] = [yield* join({ platformAdmin: true }), yield* join()]
      const path = `/api/sandboxes?account_id=${other.account.id}`
      yield* ask("GET", path, { key: admin.key })
      assert.deepStrictEqual(yield* callsOf(ask("GET", path, { key: admin.key })), [
        "AccountStore.list",
        "EnvironmentStore.get",
        "IdentityStore.findKey",
        "IdentityStore.relationshipBetween"
      ])
    }).pipe(Effect.provide(api))
  )
})
