// An embedder without the optional packages can import every adapter, and learns at use which package to install.
import assert from "node:assert/strict"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as GitHubRepos from "@castellan/adapters/github/GitHubRepos.ts"
import * as LocalSandbox from "@castellan/adapters/local/LocalSandbox.ts"
import * as Db from "@castellan/adapters/postgres/Db.ts"
import * as VercelSandbox from "@castellan/adapters/vercel/VercelSandbox.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Duration, Effect, Layer, Option, Redacted } from "effect"

const directory = mkdtempSync(join(tmpdir(), "castellan-minimal-"))
const errorOf = (effect) => Effect.runPromise(Effect.flip(Effect.scoped(effect)))

const token = Redacted.make("token")
const credentials = Effect.succeed({ token, teamId: "team_1", projectId: "prj_1" })
const layers = [
  [VercelSandbox.layer({ credentials }), "Install @vercel/sandbox to use the Vercel provider"],
  [GitHubRepos.layer({ token, owner: "castellan" }), "Install @octokit/rest to keep repositories on GitHub"],
  [
    Db.layerPglite({ directory: join(directory, "postgres") }),
    "Install @electric-sql/pglite to use the embedded database, or set DATABASE_URL to a Postgres server"
  ]
]

const create = Effect.gen(function* () {
  const provider = yield* SandboxProvider
  const name = SandboxName.make("minimal")
  return yield* provider.create({ name, from: Option.none(), lifetime: Duration.minutes(1), registry: true })
})

try {
  for (const [layer, message] of layers) assert.equal((await errorOf(Layer.build(layer))).message, message)
  const local = LocalSandbox.layer({ directory: join(directory, "local"), isolation: "none" })
  const { cause } = await errorOf(Effect.provide(create, local))
  assert.equal(cause.message, "Install npm to give local sandboxes access to a package registry")
} finally {
  rmSync(directory, { recursive: true, force: true })
}
