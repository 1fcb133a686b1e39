/** Creates sandboxes in tests and runs scripts in them. */
import { Command } from "@castellan/domain/sandbox/Command.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider, type SandboxSpec } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Sandboxes } from "@castellan/domain/sandbox/Sandboxes.ts"
import { Duration, Effect, Layer, Option } from "effect"
import { SecureRandom } from "effect/crypto"

/** The services that the functions below need, with the given provider. */
export const withSandboxes = <E, R>(provider: Layer.Layer<SandboxProvider, E, R>) =>
  Sandboxes.layer.pipe(Layer.provideMerge(provider), Layer.provideMerge(SecureRandom.layerWebCrypto))

/** Creates a sandbox with a unique name. It is removed when the scope closes. */
export const createSandbox = Effect.fnUntraced(function* (more: Partial<SandboxSpec> = {}) {
  const name = SandboxName.make(`t-${SecureRandom.uuidV4Unsafe()}`)
  const provider = yield* SandboxProvider
  yield* Effect.acquireRelease(
    provider.create({ name, from: Option.none(), lifetime: Duration.minutes(5), ...more }),
    () => Effect.ignore(provider.remove(name))
  )
  return name
})

/** Runs a script to its end. */
export const sh = Effect.fnUntraced(function* (name: SandboxName, script: string) {
  const command = new Command({ command: "sh", args: ["-c", script], cwd: null, env: {} })
  return yield* (yield* Sandboxes).run(name, command, Duration.seconds(30))
})

/** The trimmed standard output of a script. */
export const stdoutOf = (name: SandboxName, script: string) =>
  Effect.map(sh(name, script), ({ stdout }) => stdout.trim())
