import { OutputPosition } from "@castellan/domain/sandbox/Command.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import { assert } from "@effect/vitest"
import { Duration, Effect, Option, Stream } from "effect"
import { type Compile, Step } from "../../Program.ts"
import type { Clauses } from "../contract.ts"
import {
  print,
  withName,
  specOf,
  withSandbox,
  commandSpec,
  readOutput,
  runCommand,
  readText,
  tagOf
} from "./fixtures.ts"

export const snapshots = (compile: Compile): Clauses<SandboxProvider> => ({
  "a sandbox created from a snapshot has the files of the snapshot": () =>
    withSandbox((source) =>
      withName(
        Effect.fnUntraced(function* (copy) {
          const provider = yield* SandboxProvider
          yield* runCommand(source, compile(Step.Append({ path: "file", text: "then" })))
          const snapshot = yield* provider.snapshot(source)
          assert.strictEqual(snapshot.source, source)
          yield* provider.create(specOf(copy, snapshot.id))
          assert.strictEqual(yield* readText(copy, "file"), "then")
          yield* provider.removeSnapshot(snapshot.id)
        })
      )
    ),

  "a snapshot does not contain what its source or its copies write later": () =>
    withSandbox((source) =>
      withName((one) =>
        withName(
          Effect.fnUntraced(function* (two) {
            const provider = yield* SandboxProvider
            yield* runCommand(source, compile(Step.Append({ path: "file", text: "a" })))
            const snapshot = yield* provider.snapshot(source)
            yield* provider.resume(source, Duration.minutes(5))
            yield* runCommand(source, compile(Step.Append({ path: "file", text: "b" })))
            yield* provider.create(specOf(one, snapshot.id))
            yield* runCommand(one, compile(Step.Append({ path: "file", text: "c" })))
            yield* provider.create(specOf(two, snapshot.id))
            assert.strictEqual(yield* readText(source, "file"), "ab")
            assert.strictEqual(yield* readText(one, "file"), "ac")
            assert.strictEqual(yield* readText(two, "file"), "a")
            yield* provider.removeSnapshot(snapshot.id)
          })
        )
      )
    ),

  "a snapshot stops its source only if the provider declares it": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const snapshot = yield* provider.snapshot(name)
        const { status } = Option.getOrThrow(yield* provider.find(name))
        assert.strictEqual(status, provider.supports.snapshotStops ? "stopped" : "running")
        yield* provider.removeSnapshot(snapshot.id)
      })
    ),

  "snapshots lists the existing snapshots of a sandbox, also after the sandbox is removed": () =>
    withSandbox((name) =>
      withSandbox((other) =>
        Effect.gen(function* () {
          const provider = yield* SandboxProvider
          assert.deepStrictEqual(yield* provider.snapshots(name), [])
          const first = yield* provider.snapshot(name)
          const foreign = yield* provider.snapshot(other)
          const second = yield* provider.snapshot(name)
          const known = yield* provider.snapshots(name)
          assert.deepStrictEqual(new Set(known.map(({ id }) => id)), new Set([first.id, second.id]))
          yield* provider.removeSnapshot(first.id)
          yield* provider.remove(name)
          assert.deepStrictEqual(yield* provider.snapshots(name), [second])
          yield* provider.removeSnapshot(second.id)
          yield* provider.removeSnapshot(foreign.id)
          assert.deepStrictEqual(yield* provider.snapshots(name), [])
        })
      )
    ),

  "a sandbox cannot be created from a removed or unknown snapshot, and copies outlive their snapshot": () =>
    withSandbox((source) =>
      withName((child) =>
        withName(
          Effect.fnUntraced(function* (late) {
            const provider = yield* SandboxProvider
            yield* runCommand(source, compile(Step.Append({ path: "file", text: "kept" })))
            const snapshot = yield* provider.snapshot(source)
            yield* provider.create(specOf(child, snapshot.id))
            yield* provider.removeSnapshot(snapshot.id)
            yield* provider.removeSnapshot(snapshot.id)
            yield* provider.remove(source)
            assert.strictEqual(yield* tagOf(provider.create(specOf(late, snapshot.id))), "SnapshotGone")
            assert.strictEqual(
              yield* tagOf(provider.create(specOf(late, SnapshotId.make("snap_none")))),
              "SnapshotGone"
            )
            assert.isTrue(Option.isNone(yield* provider.find(late)))
            assert.strictEqual(yield* readText(child, "file"), "kept")
            yield* provider.stop(child)
            yield* provider.resume(child, Duration.minutes(5))
            assert.strictEqual(yield* readText(child, "file"), "kept")
          })
        )
      )
    ),

  "a sandbox created from a snapshot has none of the commands of the snapshot's source": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const { id } = yield* runCommand(name, compile(print("of the source")))
        const snapshot = yield* provider.snapshot(name)
        yield* withName(
          Effect.fnUntraced(function* (copy) {
            yield* provider.create(specOf(copy, snapshot.id))
            assert.strictEqual(yield* tagOf(provider.command(copy, id)), "CommandNotFound")
            const output = Stream.runDrain(provider.output(copy, id, OutputPosition.start))
            assert.strictEqual(yield* tagOf(output), "CommandNotFound")
            yield* provider.start(copy, commandSpec(compile(print("of the copy")), { id }))
            yield* provider.wait(copy, id)
            assert.strictEqual((yield* readOutput(copy, id)).stdout, "of the copy")
          })
        )
        assert.strictEqual((yield* readOutput(name, id)).stdout, "of the source")
        yield* provider.removeSnapshot(snapshot.id)
      })
    )
})
