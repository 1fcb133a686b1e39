import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import type { SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schedule } from "effect"
import { readdir } from "node:fs/promises"
import { join } from "node:path"
import { initsOf, providerProcess, type ObservedSandbox } from "../process/providerProcesses.ts"
import { temporaryDirectory } from "../temporary.ts"

const minutes = 5 * 60_000

/** A name that is unique on this host. */
const nameOf = (what: string) => SandboxName.make(`${what}-${process.pid}`)

/** Two processes over one directory. The sandbox is removed at the end. */
const twoProcesses = Effect.fnUntraced(function* (name: SandboxName) {
  const directory = yield* temporaryDirectory
  const [first, second] = yield* Effect.all([providerProcess(directory), providerProcess(directory)], {
    concurrency: 2
  })
  yield* Effect.addFinalizer(() => first.tryRequest({ do: "remove", name }))
  return { directory, first, second }
})

describe("Two processes that share the data directory of the local provider", () => {
  it.live("create one sandbox when both create the same name at once", () =>
    Effect.gen(function* () {
      const name = nameOf("create")
      const { first, second } = yield* twoProcesses(name)
      for (let round = 0; round < 10; round++) {
        const created = yield* Effect.forEach(
          [first, second, first, second],
          ({ request }) => request({ do: "create", name, lifetime: minutes }),
          { concurrency: "unbounded" }
        )
        assert.strictEqual(new Set(created.map(({ incarnation }) => incarnation)).size, 1)
        assert.lengthOf(initsOf(name), 1)
        yield* second.request({ do: "remove", name })
        assert.lengthOf(initsOf(name), 0)
      }
    }).pipe(Effect.scoped)
  )

  it.live("leave a sandbox running once or stopped when they resume and stop it at once", () =>
    Effect.gen(function* () {
      const name = nameOf("resume")
      const { first, second } = yield* twoProcesses(name)
      yield* first.request({ do: "create", name, lifetime: minutes })
      for (let round = 0; round < 20; round++) {
        yield* Effect.all(
          [
            first.request({ do: "resume", name, lifetime: minutes }),
            second.request({ do: "stop", name }),
            second.request({ do: "resume", name, lifetime: minutes }),
            ...(round % 2 === 0 ? [first.request({ do: "stop", name })] : [])
          ],
          { concurrency: "unbounded" }
        )
        const [byFirst, bySecond] = yield* Effect.all([
          first.request<ObservedSandbox>({ do: "find", name }),
          second.request<ObservedSandbox>({ do: "find", name })
        ])
        assert.deepStrictEqual(byFirst, bySecond)
        assert.lengthOf(initsOf(name), byFirst.status === "running" ? 1 : 0)
        if (byFirst.status === "running") yield* first.request({ do: "sh", name, script: "true" })
      }
    }).pipe(Effect.scoped)
  )

  it.live("never stop an incarnation that started after the one that the stop names", () =>
    Effect.gen(function* () {
      const name = nameOf("only")
      const { first, second } = yield* twoProcesses(name)
      let newest = yield* first.request({ do: "create", name, lifetime: minutes })
      for (let round = 0; round < 10; round++) {
        yield* second.request({ do: "stop", name })
        const only = newest.incarnation
        const [next] = yield* Effect.all(
          [
            second.request({ do: "resume", name, lifetime: minutes }),
            first.request({ do: "stop", name, only }),
            first.request({ do: "stop", name, only })
          ],
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual(yield* first.request({ do: "find", name }), next)
        assert.strictEqual(next.status, "running")
        newest = next
      }
    }).pipe(Effect.scoped)
  )

  it.live("let a sandbox run on after one of them extended its lifetime", () =>
    Effect.gen(function* () {
      const name = nameOf("extend")
      const { first, second } = yield* twoProcesses(name)
      yield* first.request({ do: "create", name, lifetime: 1500 })
      yield* second.request({ do: "extend", name, lifetime: 2000 })
      yield* Effect.sleep(2000)
      assert.strictEqual((yield* first.request({ do: "find", name })).status, "running")
      yield* second.kill
      yield* Effect.suspend(() =>
        Effect.flatMap(first.request({ do: "find", name }), (sandbox) =>
          sandbox.status === "running" ? Effect.fail(sandbox) : Effect.succeed(sandbox)
        )
      ).pipe(
        Effect.retry({ schedule: Schedule.spaced("50 millis"), times: 100 }),
        Effect.map((sandbox) => assert.strictEqual(sandbox.reason, "Its lifetime ended"))
      )
    }).pipe(Effect.scoped)
  )

  it.live("stop a sandbox at the end of its lifetime after the process that started it was killed", () =>
    Effect.gen(function* () {
      const name = nameOf("orphan")
      const { first, second } = yield* twoProcesses(name)
      yield* second.request({ do: "create", name, lifetime: 4000 })
      yield* second.kill
      yield* Effect.sleep(2000)
      assert.lengthOf(initsOf(name), 1)
      yield* Effect.suspend(() => (initsOf(name).length === 0 ? Effect.void : Effect.fail("still there"))).pipe(
        Effect.retry({ schedule: Schedule.spaced("50 millis"), times: 80 })
      )
      assert.strictEqual((yield* first.request({ do: "find", name })).reason, "Its lifetime ended")
    }).pipe(Effect.scoped)
  )

  it.live("keep layers in use while the other collects unused layers", () =>
    Effect.gen(function* () {
      const name = nameOf("layers")
      const { directory, first, second } = yield* twoProcesses(name)
      const copies = Array.from({ length: 6 }, (_, index) => nameOf(`copy${index}`))
      yield* first.request({ do: "create", name, lifetime: minutes })
      yield* first.request({ do: "sh", name, script: "echo kept > file" })
      for (let round = 0; round < 5; round++) {
        const from = yield* first.request<SnapshotId>({ do: "snapshot", name })
        const answers = yield* Effect.all(
          [
            ...copies.map((copy, index) =>
              (index % 2 === 0 ? first : second).tryRequest({ do: "create", name: copy, from, lifetime: minutes })
            ),
            second.tryRequest({ do: "forget", name, from })
          ],
          { concurrency: "unbounded" }
        )
        yield* Effect.forEach(
          copies,
          Effect.fnUntraced(function* (copy, index) {
            const { failed } = answers[index]!
            if (failed === undefined) {
              const read = yield* second.request<{ stdout: string }>({ do: "sh", name: copy, script: "cat file" })
              assert.strictEqual(read.stdout, "kept\n")
            } else assert.strictEqual(failed, "SnapshotGone")
            yield* first.request({ do: "remove", name: copy })
          }),
          { concurrency: 3 }
        )
        yield* second.request({ do: "resume", name, lifetime: minutes })
      }
      yield* second.request({ do: "remove", name })
      assert.deepStrictEqual(yield* Effect.promise(() => readdir(join(directory, "layers"))), ["base"])
    }).pipe(Effect.scoped)
  )

  it.live("do not repair a snapshot that another process is taking when they open the directory", () =>
    Effect.gen(function* () {
      const name = nameOf("opened")
      const { directory, first } = yield* twoProcesses(name)
      yield* first.request({ do: "create", name, lifetime: minutes })
      const snapshots = Effect.gen(function* () {
        for (let round = 0; round < 15; round++) {
          yield* first.request({ do: "snapshot", name })
          yield* first.request({ do: "resume", name, lifetime: minutes })
          yield* first.request({ do: "sh", name, script: `echo ${round} >> log` })
        }
      })
      const opens = Effect.forEach(
        Array.from({ length: 4 }),
        () => Effect.scoped(Effect.flatMap(providerProcess(directory), ({ request }) => request({ do: "find", name }))),
        { concurrency: 2 }
      )
      yield* Effect.all([snapshots, opens], { concurrency: 2 })
      const { stdout } = yield* first.request<{ stdout: string }>({ do: "sh", name, script: "wc -l < log" })
      assert.strictEqual(stdout.trim(), "15")
    }).pipe(Effect.scoped)
  )
})
