import { AppFiles } from "@castellan/domain/app/AppFiles.ts"
import { AppSandbox } from "@castellan/domain/app/AppSandbox.ts"
import { AppSandboxes } from "@castellan/domain/app/AppSandboxes.ts"
import { defaultTimes } from "@castellan/domain/app/AppTimes.ts"
import { GuestScripts } from "@castellan/domain/app/guest/GuestScripts.ts"
import { ProjectPath } from "@castellan/domain/app/project/ProjectPath.ts"
import { AccountId } from "@castellan/domain/identity/Account.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { assert, layer } from "@effect/vitest"
import { DateTime, Duration, Effect, Layer, Option, Stream } from "effect"
import { sh } from "../local/sandboxes.ts"
import { port, project, world } from "./project.ts"

const awake = Layer.mock(AppSandboxes)({ recordActivity: () => Effect.void })
const projects = AppFiles.layer(defaultTimes).pipe(Layer.provide(awake), Layer.provideMerge(world))

const appOf = (name: SandboxName) =>
  Effect.map(
    DateTime.now,
    (createdAt) =>
      new AppSandbox({
        name,
        account: AccountId.make("5f0c1c9e-6d1f-4a5e-9b0a-2f6f1c1f7a11"),
        state: "ready",
        version: 1,
        port,
        createdAt,
        expiresAt: null,
        nextCheckAt: null,
        reason: null
      })
  )

const applyFix = Effect.fnUntraced(function* (name: SandboxName) {
  const change = { files: [{ path: ProjectPath.make("vite.config.ts"), content: "" }], packages: [] }
  const events = yield* Stream.runCollect((yield* AppFiles).apply(yield* appOf(name), change))
  assert.deepInclude(events.at(-1), { _tag: "Complete", files: ["vite.config.ts"], errors: [] })
})

layer(projects, { excludeTestServices: true, timeout: "60 seconds" })("AppFiles.apply", (it) => {
  it.effect("replaces a dev server that hangs and one whose supervisor was killed", () =>
    Effect.gen(function* () {
      const guest = yield* GuestScripts
      const hanging = yield* project({ "vite.config.ts": "while (true) {}" })
      yield* guest.serve(hanging.sandbox, port)
      assert.isTrue(Option.isNone(yield* guest.awaitAnswer(hanging.name, port, Duration.seconds(1))))
      const dead = yield* project()
      yield* guest.serve(dead.sandbox, port)
      yield* guest.awaitAnswer(dead.name, port, Duration.seconds(20))
      yield* sh(dead.name, "pkill -9 node; sleep 0.2")
      yield* Effect.all([applyFix(hanging.name), applyFix(dead.name)], { concurrency: "unbounded" })
    })
  )
})
