/** The whole of Castellan as a benchmark has it: a database of its own, and the ports that it is to be measured over. */
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

/** A benchmark that measures failures measures nothing: fails unless the command exits with 0. */
export const succeeds = <E, R>(run: Effect.Effect<CommandResult, E, R>) =>
  Effect.filterOrFail(
    run,
    ({ end }) => end.exitCode === 0,
    ({ end, stderr }) => new Error(`A command ended with ${end.exitCode}: ${stderr}`)
  )

/** The scope of a new account. */
export const somebody = Effect.map(given.account(), ({ id }) => AccountScope.ofOwner({ account: id }))

/** A new directory, which is removed with the scope. Sandboxes whose server is gone are ended first. */
export { dataDirectory }

/** A server of its own process, and the key of its platform admin. */
export const served = Effect.gen(function* () {
  const key = "key-of-the-admin-of-a-benchmark"
  const { url } = yield* listening({
    CASTELLAN_DATA_DIR: yield* dataDirectory,
    CASTELLAN_ADMIN_KEY: key,
    CASTELLAN_LIVE_SANDBOXES: "1000000"
  }).pipe(Effect.mapError((said) => new Error(`The server did not start. It printed: ${said}`)))
  return { key, url }
})

/** What one part of `npm run bench` is: what it measures, and how. */
export interface Benchmark {
  /** One line for `--help`. */
  readonly about: string
  readonly run: (size: Size) => Effect.Effect<void, unknown, Scope.Scope>
}
