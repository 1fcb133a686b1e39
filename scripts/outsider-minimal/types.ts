// What an embedder without the optional packages has checked by its compiler.
import * as GitHubRepos from "@castellan/adapters/github/GitHubRepos.ts"
import * as Db from "@castellan/adapters/postgres/Db.ts"
import * as Stores from "@castellan/adapters/postgres/stores.ts"
import * as Tasks from "@castellan/adapters/tasks/PgBossTaskRunner.ts"
import * as VercelSandbox from "@castellan/adapters/vercel/VercelSandbox.ts"
import * as LocalSandbox from "@castellan/adapters/local/LocalSandbox.ts"
export const all = [
  GitHubRepos.layer,
  Db.layerPglite,
  Stores.layer,
  Tasks.layer,
  VercelSandbox.layer,
  LocalSandbox.layer
] as const
