/** Starts the server: `node main.ts`. */
import * as LocalRepos from "@castellan/adapters/git-local/LocalRepos.ts"
import * as LocalSandbox from "@castellan/adapters/local/LocalSandbox.ts"
import * as Db from "@castellan/adapters/postgres/Db.ts"
import * as Stores from "@castellan/adapters/postgres/stores.ts"
import * as PgBossTaskRunner from "@castellan/adapters/tasks/PgBossTaskRunner.ts"
import { make } from "castellan/embedding/promises.ts"
import * as Secret from "@castellan/http/server/Secret.ts"
import { serve } from "@hono/node-server"
import { Layer, Redacted } from "effect"
import { createApp } from "./app.ts"

const ports = Layer.merge(Stores.layer, PgBossTaskRunner.layer).pipe(
  Layer.provide(Db.layerPglite({ directory: "data/postgres" })),
  Layer.merge(LocalSandbox.layer({ directory: "data/local" })),
  Layer.merge(LocalRepos.layer({ directory: "data/repositories" }))
)
const castellan = await make(ports, { secret: Redacted.make(await Secret.inDirectory("data")) })

// A real service authenticates its visitors. This one has a single account, created at the first start.
const { id } = await castellan.createAccount({ name: "the only one", nonce: "the-only-account" })

const { fetch } = createApp(castellan, () => Promise.resolve(id))
const port = Number(process.env["PORT"] ?? 3001)
const server = serve({ fetch, hostname: "127.0.0.1", port }, (address) =>
  console.log(`http://127.0.0.1:${address.port}/dashboard`)
)

for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, () => server.close(() => void castellan.dispose()))
}
