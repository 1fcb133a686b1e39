import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import type { SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schedule } from "effect"
import { readdir } from "node:fs/promises"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import {
  mounting,
  type Order,
  type ProviderProcess,
  providerProcess,
  runningTwice,
  type Seen
} from "../process/providerProcesses.ts"
import { directory } from "../temporary.ts"

const minutes = 5 * 60_000

/** How long the processes are kept busy, in milliseconds, and how many orders are under way at once. */
const duration = 10_000
const atOnce = 6

/** What may become of an order while others do what they like with the same sandbox. */
const expected: Record<string, ReadonlyArray<string>> = {
  create: ["SnapshotGone"],
  resume: ["SandboxGone"],
  extend: ["SandboxGone", "SandboxNotRunning"],
  snapshot: ["SandboxGone"],
  // Its files may be removed while its output is read.
  sh: ["SandboxGone", "SandboxNotRunning", "CommandNotFound", "SandboxUnavailable"]
}

const oneOf = <A>(all: ReadonlyArray<A>): A => all[Math.floor(Math.random() * all.length)]!

const hammered = (what: string, kills: boolean) =>
  Effect.gen(function* () {
    const at = yield* directory
    const opened = Effect.map(providerProcess(at), (process): { process: ProviderProcess } => ({ process }))
    const processes = yield* Effect.all([opened, opened], { concurrency: 2 })
    const nameOf = (index: number | string) => SandboxName.make(`${what}-${index}-${process.pid}`)
    const names = [0, 1, 2].map(nameOf)
    /** Never removed: what is written in it is there for good. */
    const kept = nameOf("kept")
    const everyName = [...names, kept]
    const snapshots: Array<SnapshotId> = []
    const incarnations: Array<string> = []
    const wrong: Array<string> = []
    const written: Array<string> = []
    const until = Date.now() + duration
    let orders = 0

    const next = (name: SandboxName): Order => {
      const lifetime = Math.random() < 0.2 ? 300 : minutes
      const from = snapshots.length > 0 && Math.random() < 0.6 ? oneOf(snapshots) : undefined
      const only = Math.random() < 0.5 && incarnations.length > 0 ? oneOf(incarnations.slice(-6)) : undefined
      return oneOf<Order>([
        { do: "create", name, lifetime, ...(from === undefined ? {} : { from }) },
        { do: "create", name, lifetime: minutes },
        { do: "resume", name, lifetime: minutes },
        { do: "resume", name, lifetime },
        { do: "extend", name, lifetime: 1000 },
        { do: "stop", name, ...(only === undefined ? {} : { only }) },
        { do: "snapshot", name },
        { do: "sh", name, script: `echo ${orders} >> log` },
        { do: "sh", name, script: `echo ${orders} >> log` },
        ...(name === kept ? [] : [{ do: "remove", name } as const]),
        ...(from === undefined ? [] : [{ do: "forget", name, from } as const])
      ])
    }

    const order = Effect.gen(function* () {
      const name = oneOf(everyName)
      const wanted = next(name)
      const line = String(orders++)
      const told = wanted.do === "sh" ? { ...wanted, script: `echo ${line} >> log` } : wanted
      const { failed, gave, why } = yield* oneOf(processes).process.answer(told)
      if (failed !== undefined) {
        const isExpected = (expected[wanted.do] ?? []).includes(failed) || (kills && failed === "Killed")
        if (!isExpected) wrong.push(`${JSON.stringify(wanted)}: ${failed} ${why}`)
        return
      }
      if (wanted.do === "create" || wanted.do === "resume") incarnations.push((gave as Seen).incarnation)
      if (wanted.do === "snapshot") snapshots.push(gave as SnapshotId)
      if (wanted.do === "forget") snapshots.splice(snapshots.indexOf(wanted.from), 1)
      if (wanted.do === "sh" && name === kept && (gave as { exitCode: number }).exitCode === 0) written.push(line)
    })

    const whileBusy = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
      Effect.repeat(effect, { while: () => Date.now() < until })

    const counted = Effect.sync(() => {
      const twice = runningTwice().filter((name) => everyName.some((one) => one === name))
      if (twice.length > 0) wrong.push(`run more than once: ${twice.join(", ")}`)
    }).pipe(Effect.andThen(Effect.sleep(100)))

    const killed = Effect.gen(function* () {
      yield* Effect.sleep(Math.random() * 1000)
      const place = oneOf(processes)
      yield* place.process.kill
      place.process = (yield* opened).process
    })

    yield* Effect.all(
      [
        ...Array.from({ length: atOnce }, () => whileBusy(order)),
        whileBusy(counted),
        ...(kills ? [whileBusy(killed)] : [])
      ],
      { concurrency: "unbounded" }
    )
    assert.deepStrictEqual(wrong, [])
    assert.isAbove(orders, 100)

    // Whoever comes last finds everything, and clears it away.
    for (const { process } of processes) yield* process.kill
    const { told } = yield* providerProcess(at)
    yield* told({ do: "create", name: kept, lifetime: minutes })
    yield* told({ do: "resume", name: kept, lifetime: minutes })
    const { stdout } = yield* told<{ stdout: string }>({ do: "sh", name: kept, script: "cat log" })
    const found = stdout.split("\n")
    assert.deepStrictEqual(
      written.filter((line) => !found.includes(line)),
      []
    )
    for (const name of everyName) {
      for (const from of yield* told<ReadonlyArray<SnapshotId>>({ do: "snapshots", name })) {
        yield* told({ do: "forget", name, from })
      }
      yield* told({ do: "remove", name })
    }
    yield* Effect.gen(function* () {
      assert.deepStrictEqual(mounting(at), [])
      const left = (inside: string) => Effect.promise(() => readdir(join(at, inside)))
      assert.deepStrictEqual(yield* left("layers"), ["base"])
      for (const empty of ["sandboxes", "snapshots", "trash", "flat"]) assert.deepStrictEqual(yield* left(empty), [])
      for (const lock of yield* left("locks")) {
        const file = new DatabaseSync(join(at, "locks", lock), { timeout: 0 })
        file.exec("begin exclusive")
        file.close()
      }
    }).pipe(Effect.sandbox, Effect.retry({ schedule: Schedule.spaced("100 millis"), times: 50 }))
  }).pipe(Effect.scoped)

describe("Sandboxes that two processes do everything with at once", () => {
  it.live("run once at a time, keep what was written, and leave nothing behind", () => hammered("busy", false))

  it.live("are none the worse for the processes being killed at any moment", () => hammered("killed", true))
})
