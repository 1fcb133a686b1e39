/** Measures snapshot, restore and fork of a small and a large file tree. Images are chains of layers: both should cost the same. */
import * as LocalSandbox from "@castellan/adapters/local/LocalSandbox.ts"
import { Command } from "@castellan/domain/sandbox/Command.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Sandboxes } from "@castellan/domain/sandbox/Sandboxes.ts"
import type { SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import { Duration, Effect, Layer, Option } from "effect"
import { SecureRandom } from "effect/crypto"
import { join } from "node:path"
import { dataDirectory, succeeds, timed } from "./castellan.ts"
import { columns, heading, row, type Size } from "./figures.ts"

export const about = "Snapshot, resume, restore and fork of a small and a large file tree, local provider."

const sizes = { whole: { rounds: 20, files: 20_000 }, quick: { rounds: 2, files: 200 } }

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

const measure = Effect.fnUntraced(function* (rounds: number, files: number, bytes: number) {
  const provider = yield* SandboxProvider
  const sandboxes = yield* Sandboxes
  const lifetime = Duration.minutes(30)
  const named = (suffix: string) => SandboxName.make(`bench-${files}-${suffix}`)
  const boot = (name: SandboxName, from?: SnapshotId) =>
    provider.create({ name, from: Option.fromUndefinedOr(from), lifetime })
  const times = { snapshot: [], resume: [], restore: [], fork: [] } as Record<string, Array<number>>

  const source = named("source")
  yield* boot(source)
  yield* succeeds(sandboxes.run(source, fill(files, bytes), Duration.minutes(5)))
  for (let i = 0; i < rounds; i++) {
    const { id } = yield* timed(times["snapshot"]!, provider.snapshot(source))
    yield* timed(times["resume"]!, provider.resume(source, lifetime))
    yield* timed(times["restore"]!, boot(named(`restored-${i}`), id))
    const fork = Effect.all([boot(named(`left-${i}`), id), boot(named(`right-${i}`), id)])
    yield* timed(times["fork"]!, fork)
    for (const kind of ["restored", "left", "right"]) yield* provider.remove(named(`${kind}-${i}`))
  }
  yield* provider.remove(source)
  for (const [name, all] of Object.entries(times))
    row(`${files.toLocaleString("en")} files, ${bytes / 1e6} MB: ${name}`, all)
})

export const run = Effect.fnUntraced(function* (size: Size) {
  heading("Images on the local provider (snapshot stops the sandbox; restore and resume boot it; fork boots two)")
  const { files, rounds } = sizes[size]
  const directory = join(yield* dataDirectory, "local")
  const layer = Sandboxes.layer.pipe(
    Layer.provideMerge(LocalSandbox.layer({ directory })),
    Layer.provide(SecureRandom.layerWebCrypto)
  )
  columns()
  yield* Effect.gen(function* () {
    yield* measure(rounds, 10, 10_000)
    yield* measure(rounds, files, files * 10_000)
  }).pipe(Effect.provide(layer))
})
