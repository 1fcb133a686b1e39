/** Snapshot, restore and fork of a small tree and of a large one: an image is a chain of layers, so they should cost the same. */
import * as LocalSandbox from "@castellan/adapters/local/LocalSandbox.ts"
import { Command } from "@castellan/domain/sandbox/Command.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Sandboxes } from "@castellan/domain/sandbox/Sandboxes.ts"
import type { SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import { Duration, Effect, Layer, Option } from "effect"
import { SecureRandom } from "effect/crypto"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { columns, heading, row } from "./figures.ts"

const rounds = 20

const timed = <A, E, R>(times: Array<number>, effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const start = performance.now()
    return Effect.tap(effect, () => Effect.sync(() => times.push(performance.now() - start)))
  })

const fill = (files: number, bytes: number) => {
  const script = `
    const { mkdirSync, writeFileSync } = require("node:fs")
    const content = Buffer.alloc(${Math.floor(bytes / files)}, 7)
    for (let i = 0; i < ${files}; i++) {
      const directory = "tree/" + (i % 200)
      mkdirSync(directory, { recursive: true })
      writeFileSync(directory + "/" + i, content)
    }`
  return new Command({ command: "node", args: ["-e", script], cwd: null, env: {} })
}

const measure = Effect.fnUntraced(function* (label: string, files: number, bytes: number) {
  const provider = yield* SandboxProvider
  const sandboxes = yield* Sandboxes
  const lifetime = Duration.minutes(30)
  const named = (suffix: string) => SandboxName.make(`bench-${files}-${suffix}`)
  const boot = (name: SandboxName, from?: SnapshotId) =>
    provider.create({ name, from: Option.fromUndefinedOr(from), lifetime })
  const times = { snapshot: [], resume: [], restore: [], fork: [] } as Record<string, Array<number>>

  const source = named("source")
  yield* boot(source)
  yield* sandboxes.run(source, fill(files, bytes), Duration.minutes(5))
  for (let i = 0; i < rounds; i++) {
    const { id } = yield* timed(times["snapshot"]!, provider.snapshot(source))
    yield* timed(times["resume"]!, provider.resume(source, lifetime))
    yield* timed(times["restore"]!, boot(named(`restored-${i}`), id))
    const fork = Effect.all([boot(named(`left-${i}`), id), boot(named(`right-${i}`), id)])
    yield* timed(times["fork"]!, fork)
    for (const kind of ["restored", "left", "right"]) yield* provider.remove(named(`${kind}-${i}`))
  }
  yield* provider.remove(source)
  for (const [name, all] of Object.entries(times)) row(`${label}: ${name}`, all)
})

export const run = async () => {
  heading("Images on the local provider (snapshot stops the sandbox; restore and resume boot it; fork boots two)")
  const directory = await mkdtemp(join(tmpdir(), "castellan-bench-"))
  const layer = Sandboxes.layer.pipe(
    Layer.provideMerge(LocalSandbox.layer({ directory })),
    Layer.provide(SecureRandom.layerWebCrypto)
  )
  columns()
  const all = Effect.andThen(measure("10 files", 10, 10_000), measure("20,000 files, 200 MB", 20_000, 200_000_000))
  await Effect.runPromise(Effect.scoped(Effect.provide(all, layer)))
  await rm(directory, { recursive: true, force: true })
}
