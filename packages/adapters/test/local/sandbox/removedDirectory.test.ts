import * as LocalSandbox from "../../../src/local/LocalSandbox.ts"
import { parseStat } from "../../../src/local/process/processes.ts"
import { isAlive } from "@castellan/adapters/process/processStat.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { assert, describe, it } from "@effect/vitest"
import { Context, Duration, Effect, Exit, Layer, Option, Schedule, Scope } from "effect"
import { readFileSync, rmSync } from "node:fs"
import { join } from "node:path"
import { temporaryDirectory } from "../temporary.ts"

describe.concurrent.each(["namespaces", "none"] as const)("A local provider (%s)", (isolation) => {
  it.live(
    "reports sandboxes as unavailable while the data directory is missing, and kills them at its next start",
    () =>
      Effect.gen(function* () {
        const directory = yield* temporaryDirectory
        const name = SandboxName.make(`removed-${isolation}`)
        const spec = { name, from: Option.none(), lifetime: Duration.minutes(5) }
        const life = LocalSandbox.layer({ directory, isolation })
        const scope = yield* Scope.make()
        const first = Context.get(yield* Layer.buildWithScope(Layer.fresh(life), scope), SandboxProvider)
        yield* first.create(spec)
        const init = parseStat(readFileSync(join(directory, "sandboxes", name, "init"), "utf8"))!
        assert.isTrue(isAlive(init.pid))
        rmSync(directory, { recursive: true })
        assert.strictEqual((yield* Effect.flip(first.find(name)))._tag, "SandboxUnavailable")
        assert.strictEqual((yield* Effect.flip(first.create(spec)))._tag, "SandboxUnavailable")
        yield* Scope.close(scope, Exit.void)
        assert.isTrue(isAlive(init.pid))
        yield* Effect.gen(function* () {
          const next = yield* SandboxProvider
          assert.isTrue(Option.isNone(yield* next.find(name)))
          yield* Effect.suspend(() => (isAlive(init.pid) ? Effect.fail("still alive") : Effect.void)).pipe(
            Effect.retry({ schedule: Schedule.spaced("10 millis"), times: 1000 })
          )
        }).pipe(Effect.provide(Layer.fresh(life)))
      }).pipe(Effect.scoped)
  )
})
