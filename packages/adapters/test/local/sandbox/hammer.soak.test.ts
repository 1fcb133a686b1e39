import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import type { SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schedule } from "effect"
import { readdir } from "node:fs/promises"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import {
  processesMounting,
  type ProviderRequest,
  type ProviderProcess,
  providerProcess,
  runningTwice,
  type ObservedSandbox
} from "../process/providerProcesses.ts"
import { temporaryDirectory } from "../temporary.ts"

const minutes = 5 * 60_000

/** How long requests are sent, in milliseconds, and how many are pending at once. */
const duration = 10_000
const maxPending = 6

/** The failures that a request may have while others change the same sandbox. */
const expected: Record<string, ReadonlyArray<string>> = {
  create: ["SnapshotGone"],
  resume: ["SandboxGone"],
  extend: ["SandboxGone", "SandboxNotRunning"],
  snapshot: ["SandboxGone"],
  // Its files may be removed while its output is read.
  sh: ["SandboxGone", "SandboxNotRunning", "CommandNotFound", "SandboxUnavailable"]
}

const pick = <A>(all: ReadonlyArray<A>): A => all[Math.floor(Math.random() * all.length)]!

const stress = (what: string, kills: boolean) =>
  Effect.gen(function* () {
    const directory = yield* temporaryDirectory
    const opened = Effect.map(providerProcess(directory), (process): { process: ProviderProcess } => ({ process }))
    const processes = yield* Effect.all([opened, opened], { concurrency: 2 })
    const nameOf = (index: number | string) => SandboxName.make(`${what}-${index}-${process.pid}`)
    const names = [0, 1, 2].map(nameOf)
    /** The sandbox that is never removed: it must keep everything that is written to it. */
    const kept = nameOf("kept")
    const everyName = [...names, kept]
    const snapshots: Array<SnapshotId> = []
    const incarnations: Array<string> = []
    const failures: Array<string> = []
    const written: Array<string> = []
    const until = Date.now() + duration
    let requests = 0

    const randomRequest = (name: SandboxName): ProviderRequest => {
      const lifetime = Math.random() < 0.2 ? 300 : minutes
      const from = snapshots.length > 0 && Math.random() < 0.6 ? pick(snapshots) : undefined
      const only = Math.random() < 0.5 && incarnations.length > 0 ? pick(incarnations.slice(-6)) : undefined
      return pick<ProviderRequest>([
        { do: "create", name, lifetime, ...(from === undefined ? {} : { from }) },
        { do: "create", name, lifetime: minutes },
        { do: "resume", name, lifetime: minutes },
        { do: "resume", name, lifetime },
        { do: "extend", name, lifetime: 1000 },
        { do: "stop", name, ...(only === undefined ? {} : { only }) },
        { do: "snapshot", name },
        { do: "sh", name, script: `echo ${requests} >> log` },
        { do: "sh", name, script: `echo ${requests} >> log` },
        ...(name === kept ? [] : [{ do: "remove", name } as const]),
        ...(from === undefined ? [] : [{ do: "forget", name, from } as const])
      ])
    }

    const sendRequest = Effect.gen(function* () {
      const name = pick(everyName)
      const drawn = randomRequest(name)
      const line = String(requests++)
      const request = drawn.do === "sh" ? { ...drawn, script: `echo ${line} >> log` } : drawn
      const { failed, reason, value } = yield* pick(processes).process.tryRequest(request)
      if (failed !== undefined) {
        const isExpected = (expected[drawn.do] ?? []).includes(failed) || (kills && failed === "Killed")
        if (!isExpected) failures.push(`${JSON.stringify(drawn)}: ${failed} ${reason}`)
        return
      }
      if (drawn.do === "create" || drawn.do === "resume") incarnations.push((value as ObservedSandbox).incarnation)
      if (drawn.do === "snapshot") snapshots.push(value as SnapshotId)
      if (drawn.do === "forget") snapshots.splice(snapshots.indexOf(drawn.from), 1)
      if (drawn.do === "sh" && name === kept && (value as { exitCode: number }).exitCode === 0) written.push(line)
    })

    const whileBusy = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
      Effect.repeat(effect, { while: () => Date.now() < until })

    const checkRunning = Effect.sync(() => {
      const twice = runningTwice().filter((name) => everyName.some((one) => one === name))
      if (twice.length > 0) failures.push(`run more than once: ${twice.join(", ")}`)
    }).pipe(Effect.andThen(Effect.sleep(100)))

    const killOne = Effect.gen(function* () {
      yield* Effect.sleep(Math.random() * 1000)
      const place = pick(processes)
      yield* place.process.kill
      place.process = (yield* opened).process
    })

    yield* Effect.all(
      [
        ...Array.from({ length: maxPending }, () => whileBusy(sendRequest)),
        whileBusy(checkRunning),
        ...(kills ? [whileBusy(killOne)] : [])
      ],
      { concurrency: "unbounded" }
    )
    assert.deepStrictEqual(failures, [])
    assert.isAbove(requests, 100)

    // A last process finds everything and removes it.
    for (const { process } of processes) yield* process.kill
    const { request } = yield* providerProcess(directory)
    yield* request({ do: "create", name: kept, lifetime: minutes })
    yield* request({ do: "resume", name: kept, lifetime: minutes })
    const { stdout } = yield* request<{ stdout: string }>({ do: "sh", name: kept, script: "cat log" })
    const found = stdout.split("\n")
    assert.deepStrictEqual(
      written.filter((line) => !found.includes(line)),
      []
    )
    for (const name of everyName) {
      for (const from of yield* request<ReadonlyArray<SnapshotId>>({ do: "snapshots", name })) {
        yield* request({ do: "forget", name, from })
      }
      yield* request({ do: "remove", name })
    }
    yield* Effect.gen(function* () {
      assert.deepStrictEqual(processesMounting(directory), [])
      const entriesOf = (inside: string) => Effect.promise(() => readdir(join(directory, inside)))
      assert.deepStrictEqual(yield* entriesOf("layers"), ["base"])
      for (const empty of ["sandboxes", "snapshots", "trash", "flat"])
        assert.deepStrictEqual(yield* entriesOf(empty), [])
      for (const lock of yield* entriesOf("locks")) {
        const file = new DatabaseSync(join(directory, "locks", lock), { timeout: 0 })
        file.exec("begin exclusive")
        file.close()
      }
    }).pipe(Effect.sandbox, Effect.retry({ schedule: Schedule.spaced("100 millis"), times: 50 }))
  }).pipe(Effect.scoped)

describe("Sandboxes that two processes operate at the same time", () => {
  it.live("never run twice, keep their files, and leave nothing behind after removal", () => stress("busy", false))

  it.live("never run twice and keep their files when the processes are killed at random moments", () =>
    stress("killed", true)
  )
})
