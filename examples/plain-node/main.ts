/** Runs one check: `node main.ts`. */
import * as LocalRepos from "@castellan/adapters/git-local/LocalRepos.ts"
import * as LocalSandbox from "@castellan/adapters/local/LocalSandbox.ts"
import * as Db from "@castellan/adapters/postgres/Db.ts"
import * as Stores from "@castellan/adapters/postgres/stores.ts"
import * as PgBossTaskRunner from "@castellan/adapters/tasks/PgBossTaskRunner.ts"
import { make } from "castellan/embedding/promises.ts"
import * as Secret from "@castellan/http/server/Secret.ts"
import { Layer, Redacted } from "effect"
import { check } from "./Checks.ts"

const ports = Layer.merge(Stores.layer, PgBossTaskRunner.layer).pipe(
  Layer.provide(Db.layerPglite({ directory: "data/postgres" })),
  Layer.merge(LocalSandbox.layer({ directory: "data/local" })),
  Layer.merge(LocalRepos.layer({ directory: "data/repositories" }))
)
const castellan = await make(ports, { secret: Redacted.make(await Secret.inDirectory("data")) })

const { id } = await castellan.createAccount({ name: "checks" })
console.log(await check(castellan, id, { "sum.mjs": "console.log(1 + 1)" }, ["node", "sum.mjs"]))
await castellan.dispose()
