import { AccountSandboxes } from "@castellan/domain/account/AccountSandboxes.ts"
import { Environments } from "@castellan/domain/account/Environments.ts"
import { Setups } from "@castellan/domain/account/Setups.ts"
import type { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import type { RunId } from "@castellan/domain/task/TaskRun.ts"
import { TaskRuns } from "@castellan/domain/task/TaskRuns.ts"
import { MemorySandboxes } from "@castellan/testkit/fakes/MemorySandbox.ts"
import * as given from "@castellan/testkit/given.ts"
import * as World from "@castellan/testkit/World.ts"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Layer, Option } from "effect"
import { useCases } from "./useCases.ts"

const world = Layer.fresh(useCases().pipe(Layer.provideMerge(World.layer)))

const ended = Effect.fnUntraced(function* (scope: AccountScope, id: RunId) {
  return yield* (yield* TaskRuns).awaitEnd(scope, id, Duration.minutes(10))
})

const setUp = Effect.fnUntraced(function* (scope: AccountScope) {
  const { id } = yield* (yield* Setups).start(scope, Option.none())
  return yield* ended(scope, id)
})

describe("A setup", () => {
  it.effect("leaves a repository with the account's files, a snapshot to begin with, and a stopped sandbox", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const run = yield* setUp(scope)
      assert.deepStrictEqual([run.status, run.error], ["COMPLETED", null])
      const { environment, tree } = yield* (yield* Environments).view(scope)
      const { repo, snapshot } = Option.getOrThrow(environment)
      assert.deepStrictEqual(run.output, { githubRepo: repo, snapshotId: snapshot! })
      assert.deepStrictEqual(
        Option.getOrThrow(tree).map(({ path }) => path),
        ["README.md"]
      )
      const { rows } = yield* (yield* AccountSandboxes).list(scope, { limit: 100, cursor: null })
      assert.deepStrictEqual(
        rows.map(({ status }) => status),
        ["stopped"]
      )
      assert.deepStrictEqual((yield* MemorySandboxes).snapshots(), [snapshot!])
    }).pipe(Effect.provide(world))
  )
})
