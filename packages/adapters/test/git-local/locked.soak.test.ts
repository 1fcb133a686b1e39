import * as LocalRepos from "@castellan/adapters/git-local/LocalRepos.ts"
import { firstBranch, Repo, RepoName, RepoOwner } from "@castellan/domain/repo/Repo.ts"
import { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Option, Stream } from "effect"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { author } from "../git/author.ts"
import { directory } from "./temporaryRepos.ts"

const repo = new Repo({ owner: RepoOwner.make("castellan"), name: RepoName.make("thing") })

describe("A local repository", () => {
  it.live(
    "accepts a push after a process was killed while it updated the branch",
    () =>
      Effect.gen(function* () {
        const at = yield* directory
        const host = Context.get(yield* Layer.build(LocalRepos.layer({ directory: at })), RepoHost)
        yield* host.ensure(repo)
        const writer = yield* author
        const commit = yield* writer.commit({ file: "1" }, [])
        const bundle = yield* writer.bundle({ main: commit })
        writeFileSync(join(at, "castellan/thing.git/refs/heads/main.lock"), "")
        yield* host.push(repo, firstBranch, Stream.make(bundle))
        const found = yield* Effect.scoped(host.fetch(repo, null, [], "service"))
        assert.strictEqual(Option.getOrThrow(found).commit, commit)
      }).pipe(Effect.scoped),
    60_000
  )
})
