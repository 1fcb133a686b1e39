import * as LocalSandbox from "../../../src/local/LocalSandbox.ts"
import { CommandId, OutputPosition } from "@castellan/domain/sandbox/Command.ts"
import { SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import type { SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Option, Stream } from "effect"
import { readFile, rename, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { temporaryDirectory } from "../temporary.ts"

const name = SandboxName.make("one")
const file = SandboxPath.make("file")
const minutes = Duration.minutes(5)

/** Uses a provider in a directory that outlives it. */
const withProvider = <A, E>(directory: string, use: (provider: SandboxProvider["Service"]) => Effect.Effect<A, E>) =>
  Effect.provide(Effect.flatMap(SandboxProvider, use), LocalSandbox.layer({ directory }))

const specOf = (name: SandboxName, from?: SnapshotId) => ({
  name,
  from: Option.fromUndefinedOr(from),
  lifetime: minutes
})

describe("A stopped sandbox that has lost files", () => {
  const losses: Record<
    string,
    (directory: string, provider: SandboxProvider["Service"]) => Effect.Effect<void, unknown>
  > = {
    "its own files": (directory, provider) =>
      Effect.andThen(
        provider.create(specOf(name)),
        Effect.andThen(
          provider.stop(name),
          Effect.promise(() => rm(join(directory, "sandboxes", name, "upper"), { recursive: true }))
        )
      ),
    "a layer": (directory, provider) =>
      Effect.gen(function* () {
        const source = SandboxName.make("source")
        yield* provider.create(specOf(source))
        const snapshot = yield* provider.snapshot(source)
        yield* provider.create(specOf(name, snapshot.id))
        yield* provider.stop(name)
        const spec = JSON.parse(
          yield* Effect.promise(() => readFile(join(directory, "sandboxes", name, "spec.json"), "utf8"))
        ) as { readonly chain: ReadonlyArray<string> }
        yield* Effect.promise(() => rm(join(directory, "layers", spec.chain[0]!), { recursive: true }))
      }),
    "the files of a pending snapshot": (directory, provider) =>
      Effect.gen(function* () {
        yield* provider.create(specOf(name))
        yield* provider.stop(name)
        yield* Effect.promise(async () => {
          const moving = { id: "snap_cut-off", source: name, createdAt: 1, chain: ["cut0ff"] }
          await writeFile(join(directory, "sandboxes", name, "moving.json"), JSON.stringify(moving))
          await rm(join(directory, "sandboxes", name, "upper"), { recursive: true })
        })
      })
  }
  for (const [what, lose] of Object.entries(losses)) {
    it.live(`is gone when it is resumed, and can be created again, after it lost ${what}`, () =>
      Effect.gen(function* () {
        const directory = yield* temporaryDirectory
        yield* withProvider(directory, (provider) => lose(directory, provider))
        yield* withProvider(directory, (provider) =>
          Effect.gen(function* () {
            assert.strictEqual((yield* Effect.flip(provider.resume(name, minutes)))._tag, "SandboxGone")
            assert.isTrue(Option.isNone(yield* provider.find(name)))
            assert.strictEqual((yield* provider.create(specOf(name))).status, "running")
            yield* provider.writeFile(name, file, Stream.make(new TextEncoder().encode("new")))
            yield* provider.remove(name)
          })
        )
      }).pipe(Effect.scoped)
    )
  }
})

describe("A sandbox whose record has no incarnation", () => {
  it.live("has a constant incarnation, by which it can be stopped, until it is resumed", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      const path = join(directory, "sandboxes", name, "spec.json")
      yield* withProvider(directory, (provider) => provider.create(specOf(name)))
      yield* Effect.promise(async () => {
        const { incarnation, ...spec } = JSON.parse(await readFile(path, "utf8")) as Record<string, unknown>
        assert.isString(incarnation)
        await writeFile(path, JSON.stringify(spec))
      })
      const find = withProvider(directory, (provider) => Effect.map(provider.find(name), Option.getOrThrow))
      const before = yield* find
      assert.strictEqual(before.status, "running")
      assert.deepStrictEqual(yield* find, before)
      yield* withProvider(directory, (provider) =>
        Effect.gen(function* () {
          yield* provider.stop(name, { incarnation: before.incarnation })
          const after = yield* provider.resume(name, minutes)
          assert.notStrictEqual(after.incarnation, before.incarnation)
          yield* provider.stop(name, { incarnation: before.incarnation })
          assert.deepStrictEqual(yield* provider.find(name), Option.some(after))
          yield* provider.remove(name)
        })
      )
    }).pipe(Effect.scoped)
  )
})

describe("A command whose sandbox is removed", () => {
  it.live("ends the waits for a command and its output streams when its sandbox is removed", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      yield* withProvider(directory, (provider) =>
        Effect.gen(function* () {
          yield* provider.create(specOf(name))
          const id = CommandId.make("cmd")
          const command = { id, command: "sleep", args: ["600"], cwd: null, env: {}, timeout: minutes }
          yield* provider.start(name, command)
          const ends = yield* Effect.forkChild(
            Effect.all(
              [
                Effect.flip(provider.wait(name, id)),
                Stream.runDrain(provider.output(name, id, new OutputPosition({ stdout: 0, stderr: 0 })))
              ],
              { concurrency: 2 }
            )
          )
          yield* Effect.sleep("300 millis")
          // In one step, as another process removes it: no reader sees how the command ends.
          const files = join(directory, "sandboxes", name)
          yield* Effect.promise(() => rename(files, join(directory, "trash", name)))
          const [failure] = yield* Fiber.join(ends)
          assert.strictEqual(failure._tag, "CommandNotFound")
          yield* Effect.promise(() => rename(join(directory, "trash", name), files))
          yield* provider.remove(name)
        })
      )
    }).pipe(Effect.scoped, Effect.timeout("20 seconds"))
  )
})
