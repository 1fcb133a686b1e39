import * as LocalRepos from "@castellan/adapters/git-local/LocalRepos.ts"
import { contractLimits } from "@castellan/testkit/contracts/RepoHost/contractLimits.ts"
import * as GitHubEmulator from "@castellan/testkit/emulators/github/GitHubEmulator.ts"
import { Effect, Layer } from "effect"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"

export const directory = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "castellan-repos-"))),
  (directory) => Effect.promise(() => rm(directory, { recursive: true, force: true, maxRetries: 3 }))
)

/** Repositories in a temporary directory. */
export const local = Layer.unwrap(Effect.map(directory, (directory) => LocalRepos.layer({ directory })))

/** Repositories in a temporary directory, with an emulated GitHub for public ones. */
export const besideOthers = Layer.unwrap(
  Effect.gen(function* () {
    const { url } = yield* GitHubEmulator.GitHubEmulator
    return LocalRepos.layer({ directory: yield* directory, publicUrl: url, treeLimits: contractLimits })
  })
).pipe(Layer.provideMerge(GitHubEmulator.layer()))
