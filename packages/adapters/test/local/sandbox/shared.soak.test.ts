import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import type { SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schedule } from "effect"
import { readdir } from "node:fs/promises"
import { join } from "node:path"
import { initsOf, providerProcess, type Seen } from "../process/providerProcesses.ts"
import { directory } from "../temporary.ts"

const minutes = 5 * 60_000

/** Names are seen by the whole host. */
const nameOf = (what: string) => SandboxName.make(`${what}-${process.pid}`)

/** Two processes over one directory, and what they leave in it ended. */
const two = Effect.fnUntraced(function* (name: SandboxName) {
  const at = yield* directory
  const [first, second] = yield* Effect.all([providerProcess(at), providerProcess(at)], { concurrency: 2 })
  yield* Effect.addFinalizer(() => first.answer({ do: "remove", name }))
  return { at, first, second }
})

describe("Two processes over one directory of the local provider", () => {
  it.live("that create one name at once make one sandbox", () =>
    Effect.gen(function* () {
      const name = nameOf("create")
      const { first, second } = yield* two(name)
      for (let round = 0; round < 10; round++) {
        const made = yield* Effect.forEach(
          [first, second, first, second],
          ({ told }) => told({ do: "create", name, lifetime: minutes }),
          { concurrency: "unbounded" }
        )
        assert.strictEqual(new Set(made.map(({ incarnation }) => incarnation)).size, 1)
        assert.lengthOf(initsOf(name), 1)
        yield* second.told({ do: "remove", name })
        assert.lengthOf(initsOf(name), 0)
      }
    }).pipe(Effect.scoped)
  )

  it.live("that resume and stop at once leave it either running or stopped, with one run at most", () =>
    Effect.gen(function* () {
      const name = nameOf("resume")
      const { first, second } = yield* two(name)
      yield* first.told({ do: "create", name, lifetime: minutes })
      for (let round = 0; round < 20; round++) {
        yield* Effect.all(
          [
            first.told({ do: "resume", name, lifetime: minutes }),
            second.told({ do: "stop", name }),
            second.told({ do: "resume", name, lifetime: minutes }),
            ...(round % 2 === 0 ? [first.told({ do: "stop", name })] : [])
          ],
          { concurrency: "unbounded" }
        )
        const [seen, alsoSeen] = yield* Effect.all([
          first.told<Seen>({ do: "find", name }),
          second.told<Seen>({ do: "find", name })
        ])
        assert.deepStrictEqual(seen, alsoSeen)
        assert.lengthOf(initsOf(name), seen.status === "running" ? 1 : 0)
        if (seen.status === "running") yield* first.told({ do: "sh", name, script: "true" })
      }
    }).pipe(Effect.scoped)
  )

  it.live("tell runs apart: who stops the one it knows never stops another's", () =>
    Effect.gen(function* () {
      const name = nameOf("only")
      const { first, second } = yield* two(name)
      let known = yield* first.told({ do: "create", name, lifetime: minutes })
      for (let round = 0; round < 10; round++) {
        yield* second.told({ do: "stop", name })
        const only = known.incarnation
        const [next] = yield* Effect.all(
          [
            second.told({ do: "resume", name, lifetime: minutes }),
            first.told({ do: "stop", name, only }),
            first.told({ do: "stop", name, only })
          ],
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual(yield* first.told({ do: "find", name }), next)
        assert.strictEqual(next.status, "running")
        known = next
      }
    }).pipe(Effect.scoped)
  )

  it.live("give it more time for both: a deadline that one moved is not kept by the other", () =>
    Effect.gen(function* () {
      const name = nameOf("extend")
      const { first, second } = yield* two(name)
      yield* first.told({ do: "create", name, lifetime: 1500 })
      yield* second.told({ do: "extend", name, lifetime: 2000 })
      yield* Effect.sleep(2000)
      assert.strictEqual((yield* first.told({ do: "find", name })).status, "running")
      yield* second.kill
      yield* Effect.suspend(() =>
        Effect.flatMap(first.told({ do: "find", name }), (seen) =>
          seen.status === "running" ? Effect.fail(seen) : Effect.succeed(seen)
        )
      ).pipe(
        Effect.retry({ schedule: Schedule.spaced("50 millis"), times: 100 }),
        Effect.map((seen) => assert.strictEqual(seen.reason, "Its lifetime ended"))
      )
    }).pipe(Effect.scoped)
  )

  it.live("keep its deadline for one another: when whoever brought it up is killed, the other ends it", () =>
    Effect.gen(function* () {
      const name = nameOf("orphan")
      const { first, second } = yield* two(name)
      yield* second.told({ do: "create", name, lifetime: 4000 })
      yield* second.kill
      yield* Effect.sleep(2000)
      assert.lengthOf(initsOf(name), 1)
      yield* Effect.suspend(() => (initsOf(name).length === 0 ? Effect.void : Effect.fail("still there"))).pipe(
        Effect.retry({ schedule: Schedule.spaced("50 millis"), times: 80 })
      )
      assert.strictEqual((yield* first.told({ do: "find", name })).reason, "Its lifetime ended")
    }).pipe(Effect.scoped)
  )

  it.live("lose no layer to one another's collecting", () =>
    Effect.gen(function* () {
      const name = nameOf("layers")
      const { at, first, second } = yield* two(name)
      const copies = Array.from({ length: 6 }, (_, index) => nameOf(`copy${index}`))
      yield* first.told({ do: "create", name, lifetime: minutes })
      yield* first.told({ do: "sh", name, script: "echo kept > file" })
      for (let round = 0; round < 5; round++) {
        const from = yield* first.told<SnapshotId>({ do: "snapshot", name })
        const answers = yield* Effect.all(
          [
            ...copies.map((copy, index) =>
              (index % 2 === 0 ? first : second).answer({ do: "create", name: copy, from, lifetime: minutes })
            ),
            second.answer({ do: "forget", name, from })
          ],
          { concurrency: "unbounded" }
        )
        yield* Effect.forEach(
          copies,
          Effect.fnUntraced(function* (copy, index) {
            const { failed } = answers[index]!
            if (failed === undefined) {
              const read = yield* second.told<{ stdout: string }>({ do: "sh", name: copy, script: "cat file" })
              assert.strictEqual(read.stdout, "kept\n")
            } else assert.strictEqual(failed, "SnapshotGone")
            yield* first.told({ do: "remove", name: copy })
          }),
          { concurrency: 3 }
        )
        yield* second.told({ do: "resume", name, lifetime: minutes })
      }
      yield* second.told({ do: "remove", name })
      assert.deepStrictEqual(yield* Effect.promise(() => readdir(join(at, "layers"))), ["base"])
    }).pipe(Effect.scoped)
  )

  it.live("may open it while the other takes snapshots: none is taken for one that was cut off", () =>
    Effect.gen(function* () {
      const name = nameOf("opened")
      const { at, first } = yield* two(name)
      yield* first.told({ do: "create", name, lifetime: minutes })
      const snapshots = Effect.gen(function* () {
        for (let round = 0; round < 15; round++) {
          yield* first.told({ do: "snapshot", name })
          yield* first.told({ do: "resume", name, lifetime: minutes })
          yield* first.told({ do: "sh", name, script: `echo ${round} >> log` })
        }
      })
      const opens = Effect.forEach(
        Array.from({ length: 4 }),
        () => Effect.scoped(Effect.flatMap(providerProcess(at), ({ told }) => told({ do: "find", name }))),
        { concurrency: 2 }
      )
      yield* Effect.all([snapshots, opens], { concurrency: 2 })
      const { stdout } = yield* first.told<{ stdout: string }>({ do: "sh", name, script: "wc -l < log" })
      assert.strictEqual(stdout.trim(), "15")
    }).pipe(Effect.scoped)
  )
})
