import * as LocalSandbox from "../../../src/local/LocalSandbox.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { assert, it } from "@effect/vitest"
import { Duration, Effect, Option } from "effect"
import { readdir } from "node:fs/promises"
import { join } from "node:path"
import { temporaryDirectory } from "../temporary.ts"

it.live("keeps a layer as long as a sandbox or a snapshot uses it, and removes it after the last one", () =>
  Effect.gen(function* () {
    const directory = yield* temporaryDirectory
    const layers = Effect.promise(() => readdir(join(directory, "layers")))
    yield* Effect.gen(function* () {
      const provider = yield* SandboxProvider
      const [source, fork] = [SandboxName.make("source"), SandboxName.make("fork")]
      const lifetime = Duration.minutes(5)
      yield* provider.create({ name: source, from: Option.none(), lifetime })
      const first = yield* provider.snapshot(source)
      yield* provider.create({ name: fork, from: Option.some(first.id), lifetime })
      yield* provider.remove(source)
      yield* provider.removeSnapshot(first.id)
      assert.lengthOf(yield* layers, 2)
      const second = yield* provider.snapshot(fork)
      yield* provider.remove(fork)
      assert.lengthOf(yield* layers, 3)
      yield* provider.removeSnapshot(second.id)
      assert.deepStrictEqual(yield* layers, ["base"])
      yield* provider.create({ name: source, from: Option.none(), lifetime })
      const third = yield* provider.snapshot(source)
      yield* provider.removeSnapshot(third.id)
      assert.lengthOf(yield* layers, 2)
      yield* provider.remove(source)
      assert.deepStrictEqual(yield* layers, ["base"])
    }).pipe(Effect.provide(LocalSandbox.layer({ directory })))
  }).pipe(Effect.scoped)
)
