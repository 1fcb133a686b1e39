import * as Bundles from "@castellan/adapters/git/Bundles.ts"
import * as Git from "@castellan/adapters/git/Git.ts"
import { BranchName, CommitId } from "@castellan/domain/repo/Repo.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Option, Stream } from "effect"
import { mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import { author, git } from "./author.ts"

const main = BranchName.make("main")
const nobodys = CommitId.make("0123456789".repeat(4))

/** A local repository that is accessed by its URL, like a remote one. */
const remote = Effect.gen(function* () {
  const path = join(yield* Git.workspace, "remote.git")
  yield* Git.text(["init", "--bare", "--quiet", "--initial-branch=main", path])
  const standing = (branch: string) =>
    git(path, ["for-each-ref", "--format=%(objectname)", `refs/heads/${branch}`])
      .toString()
      .trim()
  return { path, url: pathToFileURL(path).href, standing }
})

const bytesOf = (found: Effect.Success<ReturnType<typeof Bundles.fetchBundle>>) =>
  Effect.map(Stream.runCollect(Option.getOrThrow(Option.getOrThrow(found).bundle)), (pieces) => Buffer.concat(pieces))

describe("Bundles of a remote", () => {
  it.live("fetches a branch as a bundle, complete or without known commits", () =>
    Effect.gen(function* () {
      const { url } = yield* remote
      const [writer, reader] = [yield* author, yield* author]
      assert.isTrue(Option.isNone(yield* Bundles.fetchBundle({ url }, null, [])))
      const first = yield* writer.commit({ file: "1" })
      yield* Bundles.pushToRemote({ url }, main, Stream.make(yield* writer.bundle({ main: first })))
      const whole = yield* Bundles.fetchBundle({ url }, null, [nobodys])
      assert.deepStrictEqual(yield* reader.unbundle(yield* bytesOf(whole)), { main: first })
      const second = yield* writer.commit({ file: "2" }, [first])
      yield* Bundles.pushToRemote({ url }, main, Stream.make(yield* writer.bundle({ main: second }, [first])))
      const rest = yield* Bundles.fetchBundle({ url }, main, [first])
      assert.deepStrictEqual(yield* reader.unbundle(yield* bytesOf(rest)), { main: second })
      const nothing = Option.getOrThrow(yield* Bundles.fetchBundle({ url }, main, [second]))
      assert.deepStrictEqual([nothing.commit, nothing.bundle], [second, Option.none()])
      assert.isTrue(Option.isNone(yield* Bundles.fetchBundle({ url }, BranchName.make("heads/main"), [])))
    }).pipe(Effect.scoped)
  )

  it.live("creates a branch from a bundle that builds on another branch", () =>
    Effect.gen(function* () {
      const { standing, url } = yield* remote
      const writer = yield* author
      const first = yield* writer.commit({ file: "1" })
      yield* Bundles.pushToRemote({ url }, main, Stream.make(yield* writer.bundle({ main: first })))
      const second = yield* writer.commit({ file: "2" }, [first])
      const bundle = yield* writer.bundle({ other: second }, [first])
      yield* Bundles.pushToRemote({ url }, BranchName.make("other"), Stream.make(bundle))
      assert.strictEqual(standing("other"), second)
      assert.strictEqual(standing("main"), first)
    }).pipe(Effect.scoped)
  )

  it.live("does not move a branch for a bundle that is damaged or does not build on the branch", () =>
    Effect.gen(function* () {
      const { standing, url } = yield* remote
      const writer = yield* author
      const first = yield* writer.commit({ file: "1" })
      const second = yield* writer.commit({ file: "2" }, [first])
      const aside = yield* writer.commit({ file: "3" }, [first])
      yield* Bundles.pushToRemote({ url }, main, Stream.make(yield* writer.bundle({ main: second })))
      const pushFailure = Effect.fnUntraced(function* (bundle: Uint8Array) {
        return (yield* Effect.flip(Bundles.pushToRemote({ url }, main, Stream.make(bundle))))._tag
      })
      assert.strictEqual(yield* pushFailure(yield* writer.bundle({ main: aside })), "NonFastForward")
      assert.strictEqual(yield* pushFailure(yield* writer.bundle({ main: first })), "NonFastForward")
      assert.strictEqual(yield* pushFailure(yield* writer.bundle({ other: aside })), "BundleUnreadable")
      assert.strictEqual(yield* pushFailure(Buffer.from("no bundle")), "BundleUnreadable")
      yield* Bundles.pushToRemote({ url }, main, Stream.make(yield* writer.bundle({ main: second })))
      assert.strictEqual(standing("main"), second)
    }).pipe(Effect.scoped)
  )

  it.live("does not overwrite a branch that another push moves at the same time", () =>
    Effect.gen(function* () {
      const { path, standing, url } = yield* remote
      const writer = yield* author
      const first = yield* writer.commit({ file: "1" })
      yield* Bundles.pushToRemote({ url }, main, Stream.make(yield* writer.bundle({ main: first })))
      const [ours, theirs] = [
        yield* writer.commit({ file: "2" }, [first]),
        yield* writer.commit({ file: "3" }, [first])
      ]
      yield* Bundles.pushToRemote({ url }, BranchName.make("theirs"), Stream.make(yield* writer.bundle({ theirs })))
      // The other push arrives after this one has read the branch.
      const hook = `#!/bin/sh\n[ -e moved ] || { touch moved; env -u GIT_QUARANTINE_PATH git update-ref refs/heads/main ${theirs}; }\n`
      mkdirSync(join(path, "hooks"), { recursive: true })
      writeFileSync(join(path, "hooks/pre-receive"), hook, { mode: 0o755 })
      const bundle = yield* writer.bundle({ main: ours })
      const failure = yield* Effect.flip(Bundles.pushToRemote({ url }, main, Stream.make(bundle)))
      assert.strictEqual(failure._tag, "NonFastForward")
      assert.strictEqual(standing("main"), theirs)
    }).pipe(Effect.scoped)
  )

  it.live("fails with git's error for an unreachable remote", () =>
    Effect.gen(function* () {
      const url = "file:///nowhere/at/all.git"
      const writer = yield* author
      const bundle = yield* writer.bundle({ main: yield* writer.commit({ file: "1" }) })
      assert.strictEqual((yield* Effect.flip(Bundles.fetchBundle({ url }, null, [])))._tag, "GitFailed")
      assert.strictEqual(
        (yield* Effect.flip(Bundles.pushToRemote({ url }, main, Stream.make(bundle))))._tag,
        "GitFailed"
      )
    }).pipe(Effect.scoped)
  )
})
