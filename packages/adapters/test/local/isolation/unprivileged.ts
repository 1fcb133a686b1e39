/** Runs a script in a sandbox as the current user, with a registry if one is given, and prints its output as JSON. */
import * as LocalSandbox from "../../../src/local/LocalSandbox.ts"
import { Command } from "@castellan/domain/sandbox/Command.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Sandboxes } from "@castellan/domain/sandbox/Sandboxes.ts"
import { Duration, Effect, Layer, Option } from "effect"
import { SecureRandom } from "effect/crypto"

const [directory = "", script = "", registry = ""] = process.argv.slice(2)

const main = Effect.gen(function* () {
  const provider = yield* SandboxProvider
  const name = SandboxName.make("unprivileged")
  yield* provider.create({
    name,
    from: Option.none(),
    lifetime: Duration.minutes(1),
    registry: registry !== ""
  })
  const command = new Command({ command: "sh", args: ["-c", script], cwd: null, env: {} })
  const result = yield* (yield* Sandboxes).run(name, command, Duration.seconds(20))
  const { id } = yield* provider.snapshot(name)
  yield* provider.create({ name: SandboxName.make("copy"), from: Option.some(id), lifetime: Duration.minutes(1) })
  const copied = yield* (yield* Sandboxes).run(
    SandboxName.make("copy"),
    new Command({ command: "cat", args: ["kept"], cwd: null, env: {} }),
    Duration.seconds(20)
  )
  yield* provider.remove(name)
  yield* provider.remove(SandboxName.make("copy"))
  process.stdout.write(JSON.stringify({ stdout: result.stdout, stderr: result.stderr, copied: copied.stdout }))
})

const world = Sandboxes.layer.pipe(
  Layer.provideMerge(LocalSandbox.layer({ directory, ...(registry === "" ? {} : { registry }) })),
  Layer.provide(SecureRandom.layerWebCrypto)
)

await Effect.runPromise(Effect.scoped(Effect.provide(main, world)))
process.exit(0)
