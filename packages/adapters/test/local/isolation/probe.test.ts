import { BootTimedOut, type Isolation } from "../../../src/local/isolation/Isolation.ts"
import { makeLayout as layoutOf } from "../../../src/local/storage/Layout.ts"
import * as Locks from "../../../src/local/process/Locks.ts"
import { attempts, probe } from "../../../src/local/isolation/Probe.ts"
import { SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect } from "effect"
import { mkdir } from "node:fs/promises"
import { temporaryDirectory } from "../temporary.ts"

const failed = (operation: string, cause: Error) => new SandboxUnavailable({ operation, retryable: false, cause })
const timedOut = failed("boot", new BootTimedOut("the sandbox did not start within 20 seconds"))

/** Probes a host whose first attempts to start a sandbox fail as given, and the next one succeeds. */
const runProbe = Effect.fnUntraced(function* (...failures: ReadonlyArray<SandboxUnavailable>) {
  const layout = layoutOf(yield* temporaryDirectory)
  yield* Effect.promise(async () => {
    for (const one of [layout.locks, layout.sandboxes]) await mkdir(one, { recursive: true })
  })
  const waits: Array<Duration.Duration | undefined> = []
  const boot: Isolation["boot"] = (...[, , , within]) => {
    waits.push(within)
    const failure = failures[waits.length - 1]
    const endedProcess = { pid: 999_999_999, parent: 1, startTime: "0" }
    return failure === undefined ? Effect.succeed(endedProcess) : Effect.fail(failure)
  }
  const isolation = {
    userOf: () => false,
    prepare: () => Effect.void,
    boot,
    enterCommand: () => ["sh", "-c", "echo over"]
  } as Partial<Isolation> as Isolation
  const refused = yield* Effect.match(probe(layout, isolation, Locks.make(layout.locks)), {
    onFailure: ({ message }) => message,
    onSuccess: () => null
  })
  return { refused, waits }
})

describe("The probe of a host's isolation", () => {
  it.live("allows more time with each attempt", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* runProbe(timedOut, timedOut), { refused: null, waits: [...attempts] })
      assert.isAbove(Duration.toMillis(attempts[2]!), Duration.toMillis(attempts[0]!))
    }).pipe(Effect.scoped)
  )

  it.live("reports a slow host as too busy, and does not recommend to run without isolation", () =>
    Effect.gen(function* () {
      const { refused, waits } = yield* runProbe(timedOut, timedOut, timedOut)
      assert.strictEqual(waits.length, attempts.length)
      assert.match(refused!, /too busy.* load average [\d.]+/)
      assert.notMatch(refused!, /CASTELLAN_LOCAL_ISOLATION|can't be isolated/)
    }).pipe(Effect.scoped)
  )

  it.live("retries an attempt that failed for lack of memory or processes", () =>
    Effect.gen(function* () {
      for (const message of ["unshare: fork failed: Resource temporarily unavailable", "exit 137"]) {
        const { refused, waits } = yield* runProbe(failed("boot", new Error(message)))
        assert.deepStrictEqual([refused, waits.length], [null, 2])
      }
    }).pipe(Effect.scoped)
  )

  it.live("reports what to allow on a host that refuses namespaces, without a retry", () =>
    Effect.gen(function* () {
      const { refused, waits } = yield* runProbe(
        failed("boot", new Error("unshare: unshare failed: Operation not permitted"))
      )
      assert.strictEqual(waits.length, 1)
      assert.match(refused!, /can't be isolated on this host: .*Operation not permitted.*unprivileged_userns_clone/)
    }).pipe(Effect.scoped)
  )

  it.live("distinguishes a data directory that can't be written from a host without namespaces", () =>
    Effect.gen(function* () {
      const { refused } = yield* runProbe(failed("prepare", new Error("ENOSPC: no space left on device, write")))
      assert.match(refused!, /can't be used for sandboxes: ENOSPC/)
      assert.notMatch(refused!, /CASTELLAN_LOCAL_ISOLATION/)
    }).pipe(Effect.scoped)
  )
})
