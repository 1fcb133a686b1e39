/** The adapters and options of this deployment. The tests replace this module. */
import * as LocalRepos from "@castellan/adapters/git-local/LocalRepos.ts"
import * as LocalSandbox from "@castellan/adapters/local/LocalSandbox.ts"
import * as Db from "@castellan/adapters/postgres/Db.ts"
import * as Stores from "@castellan/adapters/postgres/stores.ts"
import * as PgBossTaskRunner from "@castellan/adapters/tasks/PgBossTaskRunner.ts"
import * as Secret from "@castellan/http/server/Secret.ts"
import { Config, Effect, Layer, Redacted } from "effect"

/** Layers for every port: the embedded database, and sandboxes and repositories on this machine. */
export const ports = Layer.merge(Stores.layer, PgBossTaskRunner.layer).pipe(
  Layer.provide(Db.layerPglite({ directory: "data/postgres" })),
  Layer.merge(LocalSandbox.layer({ directory: "data/local" })),
  Layer.merge(LocalRepos.layer({ directory: "data/repositories" }))
)

/** The secret is created at the first start. The platform admin's key comes from the environment. */
export const options = Effect.gen(function* () {
  const secret = Redacted.make(yield* Effect.promise(() => Secret.inDirectory("data")))
  return { secret, adminKey: yield* Config.Redacted("CASTELLAN_ADMIN_KEY") }
})
