/** Sandboxes of a test, and what is run in them. */
import { Command } from "@castellan/domain/sandbox/Command.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider, type SandboxSpec } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Sandboxes } from "@castellan/domain/sandbox/Sandboxes.ts"
import { Duration, Effect, Layer, Option } from "effect"
import { SecureRandom } from "effect/crypto"

/** What the helpers below need, over a provider. */
export const over = <E, R>(provider: Layer.Layer<SandboxProvider, E, R>) =>
  Sandboxes.layer.pipe(Layer.provideMerge(provider), Layer.provideMerge(SecureRandom.layerWebCrypto))

/** A sandbox under a name nobody else has; it is removed with the scope. */
export const created = Effect.fnUntraced(function* (more: Partial<SandboxSpec> = {}) {
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

/** What a script prints. */
export const said = (name: SandboxName, script: string) => Effect.map(sh(name, script), ({ stdout }) => stdout.trim())
