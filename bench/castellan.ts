/** Castellan as the benchmarks run it: with a database of its own, over the ports under measurement. */
import * as LocalRepos from "@castellan/adapters/git-local/LocalRepos.ts"
import * as LocalSandbox from "@castellan/adapters/local/LocalSandbox.ts"
import * as Db from "@castellan/adapters/postgres/Db.ts"
import * as Stores from "@castellan/adapters/postgres/stores.ts"
import * as PgBossTaskRunner from "@castellan/adapters/tasks/PgBossTaskRunner.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import type { CommandResult } from "@castellan/domain/sandbox/Sandboxes.ts"
import * as Castellan from "@castellan/http/server/Castellan.ts"
import * as MemoryRepoHost from "@castellan/testkit/fakes/repo/MemoryRepoHost.ts"
import * as MemorySandbox from "@castellan/testkit/fakes/sandbox/MemorySandbox.ts"
import * as given from "@castellan/testkit/given.ts"
import { Effect, Layer, Redacted, type Scope } from "effect"
import { join } from "node:path"
import { dataDirectory, listening } from "../packages/http/test/server/serverProcess.ts"
import type { Size } from "./figures.ts"

export const timed = <A, E, R>(times: Array<number>, effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const start = performance.now()
    return Effect.tap(effect, () => Effect.sync(() => times.push(performance.now() - start)))
  })

const stores = (directory: string) =>
  Layer.merge(Stores.layer, PgBossTaskRunner.layer).pipe(
    Layer.provideMerge(Db.layerConfig({ dataDirectory: directory }))
  )

const secret = Redacted.make(new Uint8Array(32).fill(1))

export const onTheControlPlane = (directory: string) =>
  Castellan.layer({ secret }).pipe(
    Layer.provideMerge(Layer.mergeAll(MemorySandbox.layer, MemoryRepoHost.layer)),
    Layer.provideMerge(stores(directory))
  )

export const onThisMachine = (directory: string) =>
  Castellan.layer({ secret }).pipe(
    Layer.provideMerge(LocalSandbox.layer({ directory: join(directory, "local") })),
    Layer.provideMerge(LocalRepos.layer({ directory: join(directory, "repositories") })),
    Layer.provideMerge(stores(directory))
  )

/** Fails unless the command exits with 0, so that a benchmark never measures failures. */
export const succeeds = <E, R>(run: Effect.Effect<CommandResult, E, R>) =>
  Effect.filterOrFail(
    run,
    ({ end }) => end.exitCode === 0,
    ({ end, stderr }) => new Error(`A command exited with ${end.exitCode}: ${stderr}`)
  )

/** The scope of a new account. */
export const somebody = Effect.map(given.account(), ({ id }) => AccountScope.ofOwner({ account: id }))

/** A new directory, removed with the scope, after the sandboxes in it have been stopped. */
export { dataDirectory }

/** A server in a process of its own, and its platform admin's key. */
export const served = Effect.gen(function* () {
  const key = "key-of-the-admin-of-a-benchmark"
  const { url } = yield* listening({
    CASTELLAN_DATA_DIR: yield* dataDirectory,
    CASTELLAN_ADMIN_KEY: key,
    CASTELLAN_LIVE_SANDBOXES: "1000000"
  }).pipe(Effect.mapError((said) => new Error(`The server did not start. It printed: ${said}`)))
  return { key, url }
})

/** A benchmark of `npm run bench`. */
export interface Benchmark {
  /** What it measures, as one line of `--help`. */
  readonly about: string
  readonly run: (size: Size) => Effect.Effect<void, unknown, Scope.Scope>
}
