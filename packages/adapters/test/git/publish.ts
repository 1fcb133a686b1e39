import { GitHubEmulator } from "@castellan/testkit/emulators/github/GitHubEmulator.ts"
import type { Publish } from "@castellan/testkit/contracts/RepoHost/Author.ts"
import { Effect } from "effect"
import { writeFile } from "node:fs/promises"
import { join } from "node:path"
import { git } from "./author.ts"

/** Publishes a bundle as a public repository, with the real git. */
export const publish: Publish<GitHubEmulator> = Effect.fnUntraced(function* (repo, bundle) {
  const github = yield* GitHubEmulator
  yield* Effect.promise(async () => {
    const directory = await github.publish(repo.owner, repo.name)
    const file = join(directory, "published.bundle")
    await writeFile(file, bundle)
    git(directory, ["fetch", "--quiet", file, "+refs/heads/*:refs/heads/*"])
  })
})
