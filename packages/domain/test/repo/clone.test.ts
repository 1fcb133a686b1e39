import { workspace } from "@castellan/domain/repo/Checkout.ts"
import { Checkouts } from "@castellan/domain/repo/Checkouts.ts"
import { BranchName, type CommitId, firstBranch, Repo, RepoName, RepoOwner } from "@castellan/domain/repo/Repo.ts"
import type { ReadAs } from "@castellan/domain/repo/ReadAs.ts"
import { RepoHost, RepoUnavailable } from "@castellan/domain/repo/RepoHost.ts"
import { Sandboxes } from "@castellan/domain/sandbox/Sandboxes.ts"
import { SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import type { SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import { author as newAuthor } from "@castellan/testkit/fakes/repo/MemoryAuthor.ts"
import { MemoryRepos } from "@castellan/testkit/fakes/repo/MemoryRepoHost.ts"
import * as World from "@castellan/testkit/World.ts"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Layer, Option, Stream } from "effect"

const one = SandboxName.make("sbx_one")
const two = SandboxName.make("sbx_two")
const feature = BranchName.make("feature")
const repo = new Repo({ owner: RepoOwner.make("somebody"), name: RepoName.make("thing") })
const own = new Repo({ owner: RepoOwner.make("castellan"), name: RepoName.make("own") })
const url = "https://public.memory.test/somebody/thing"

/** The `have` of each fetch. */
const haves: Array<ReadonlyArray<CommitId>> = []

const host = Layer.effect(
  RepoHost,
  Effect.map(RepoHost, (real) => ({
    ...real,
    fetch: (of: Repo, branch: BranchName | null, have: ReadonlyArray<CommitId>, readAs: ReadAs) => {
      haves.push(have)
      return real.fetch(of, branch, have, readAs)
    }
  }))
)

const world = Layer.fresh(
  Checkouts.layer.pipe(
    Layer.provideMerge(Sandboxes.layer),
    Layer.provideMerge(host),
    Layer.provideMerge(World.layer),
    Layer.provide(World.crypto)
  )
)

const booted = (name: SandboxName, from?: SnapshotId) =>
  Effect.flatMap(SandboxProvider, (provider) =>
    provider.create({ name, from: Option.fromUndefinedOr(from), lifetime: Duration.minutes(30) })
  )

const files = Effect.fnUntraced(function* (name: SandboxName) {
  const sandboxes = yield* Sandboxes
  const { files: found } = yield* sandboxes.listFiles(name, SandboxPath.make(workspace), { depth: 64, limit: 1000 })
  const kept = found.filter(({ path, type }) => type === "file" && !path.startsWith(".git/"))
  const texts = yield* Effect.forEach(kept, ({ path }) =>
    sandboxes.readFile(name, SandboxPath.make(`${workspace}/${path}`)).pipe(Stream.decodeText(), Stream.mkString)
  )
  return Object.fromEntries(kept.map(({ path }, index) => [path, texts[index]]))
})

const write = (name: SandboxName, path: string, text: string) =>
  Effect.flatMap(Sandboxes, (sandboxes) =>
    sandboxes.writeFile(name, SandboxPath.make(`${workspace}/${path}`), Stream.make(new TextEncoder().encode(text)))
  )

const clone = (name: SandboxName, branch: BranchName | null = null, readAs: ReadAs = "anonymous", of = repo) =>
  Effect.flatMap(Checkouts, (checkouts) => checkouts.clone(name, of, { branch, readAs, url }))

/** A running sandbox, and a public repository with a commit on `main` and its child on `feature`. */
const fixture = Effect.gen(function* () {
  yield* booted(one)
  const author = yield* newAuthor
  const main = yield* author.commit({ a: "1", b: "1" })
  const other = yield* author.commit({ a: "1", c: "1" }, [main])
  const publish = Effect.fnUntraced(function* (branches: Readonly<Record<string, CommitId>>) {
    yield* (yield* MemoryRepos).publish(repo, yield* author.bundle(branches))
  })
  yield* publish({ main, feature: other })
  haves.length = 0
  return { author, main, other, publish }
}).pipe(Effect.scoped)

describe("Checkouts.clone", () => {
  it.effect("checks out the default branch if none is named, and leaves no temporary files", () =>
    Effect.gen(function* () {
      const { main } = yield* fixture
      assert.deepStrictEqual(yield* clone(one), { branch: firstBranch, commit: main })
      assert.deepStrictEqual(yield* files(one), { a: "1", b: "1" })
      const { files: found } = yield* (yield* Sandboxes).listFiles(one, SandboxPath.make(`${workspace}/.git`), {
        depth: 64,
        limit: 1000
      })
      assert.notInclude(found.map(({ path }) => path).join(), "bundle")
    }).pipe(Effect.provide(world))
  )

  it.effect("checks out the named branch, and can be repeated", () =>
    Effect.gen(function* () {
      const { other } = yield* fixture
      for (let again = 0; again < 2; again++) {
        assert.deepStrictEqual(yield* clone(one, feature), { branch: feature, commit: other })
        assert.deepStrictEqual(yield* files(one), { a: "1", c: "1" })
      }
      assert.deepStrictEqual(haves, [[], [other]])
    }).pipe(Effect.provide(world))
  )

  it.effect("updates a sandbox made from an older clone to the head, also of another branch", () =>
    Effect.gen(function* () {
      const { author, main, other, publish } = yield* fixture
      yield* clone(one)
      yield* write(one, "a", "changed by a setup")
      yield* write(one, "made", "by a setup")
      const snapshot = yield* (yield* SandboxProvider).snapshot(one)
      const next = yield* author.commit({ a: "2", new: "2" }, [main])
      yield* publish({ main: next })
      haves.length = 0
      yield* booted(two, snapshot.id)
      assert.deepStrictEqual(yield* clone(two), { branch: firstBranch, commit: next })
      assert.deepStrictEqual(yield* files(two), { a: "2", new: "2", made: "by a setup" })
      yield* (yield* SandboxProvider).remove(two)
      yield* booted(two, snapshot.id)
      assert.deepStrictEqual(yield* clone(two, feature), { branch: feature, commit: other })
      assert.deepStrictEqual(yield* files(two), { a: "1", c: "1", made: "by a setup" })
      // Both fetches passed the commits that were there.
      assert.deepStrictEqual(haves, [[main], [main]])
    }).pipe(Effect.provide(world))
  )

  it.effect("keeps an untracked file that conflicts with the repository, and fails with its path", () =>
    Effect.gen(function* () {
      const { main } = yield* fixture
      yield* write(one, "b", "precious")
      const failure = yield* Effect.flip(clone(one))
      assert.deepInclude(failure, {
        _tag: "CheckoutFailed",
        reason: "A file in the sandbox conflicts with a file of the repository: b"
      })
      assert.deepStrictEqual(yield* files(one), { b: "precious" })
      yield* (yield* SandboxProvider).remove(one)
      yield* booted(one)
      assert.deepStrictEqual(yield* clone(one), { branch: firstBranch, commit: main })
    }).pipe(Effect.provide(world))
  )

  it.effect("fails with a sentence if there is no such branch", () =>
    Effect.gen(function* () {
      yield* fixture
      const failure = yield* Effect.flip(clone(one, BranchName.make("none")))
      assert.deepInclude(failure, { _tag: "CheckoutFailed", reason: "The repository has no such branch" })
      assert.deepStrictEqual(yield* files(one), {})
    }).pipe(Effect.provide(world))
  )

  it.effect("gives a branch without a commit for an empty repository, to which the first files can be pushed", () =>
    Effect.gen(function* () {
      yield* fixture
      yield* (yield* RepoHost).ensure(own)
      assert.deepStrictEqual(yield* clone(one, null, "service", own), { branch: firstBranch, commit: null })
      yield* write(one, "file", "1")
      const author = { name: "Castellan", email: "castellan@noreply.invalid" }
      const options = { branch: firstBranch, message: "Update the workspace", author, title: "own" }
      yield* (yield* Checkouts).sync(one, own, options)
      const repos = yield* MemoryRepos
      assert.deepStrictEqual([...repos.commit(own)!.files.keys()], ["file"])
    }).pipe(Effect.provide(world))
  )

  it.effect("finds only repositories that its credential can read", () =>
    Effect.gen(function* () {
      yield* fixture
      yield* (yield* RepoHost).ensure(own)
      for (const [of, readAs] of [
        [own, "anonymous"],
        [repo, "service"]
      ] as const) {
        for (const branch of [null, firstBranch]) {
          assert.strictEqual((yield* Effect.flip(clone(one, branch, readAs, of)))._tag, "RepoNotFound")
        }
      }
    }).pipe(Effect.provide(world))
  )

  it.effect("keeps all commits when its files are pushed to another repository", () =>
    Effect.gen(function* () {
      const { main } = yield* fixture
      yield* clone(one)
      yield* (yield* RepoHost).ensure(own)
      const author = { name: "Castellan", email: "castellan@noreply.invalid" }
      const options = { branch: firstBranch, message: "Update the workspace", author, title: "own" }
      assert.strictEqual(yield* (yield* Checkouts).sync(one, own, options), main)
      assert.strictEqual((yield* MemoryRepos).commit(own)?.id, main)
    }).pipe(Effect.provide(world))
  )

  it.effect("is completed by the next call after an interruption", () =>
    Effect.gen(function* () {
      const { main } = yield* fixture
      const broken = new RepoUnavailable({ operation: "fetch", retryable: true, retryAfterMs: null, cause: "cut off" })
      const once = Layer.effect(
        RepoHost,
        Effect.map(RepoHost, (real) => ({
          ...real,
          fetch: (...args: Parameters<typeof real.fetch>) =>
            Effect.map(
              real.fetch(...args),
              Option.map((found) => ({
                ...found,
                bundle: Option.map(found.bundle, (bundle) => Stream.concat(Stream.take(bundle, 0), Stream.fail(broken)))
              }))
            )
        }))
      )
      const breaking = Layer.fresh(Checkouts.layer).pipe(Layer.provide(once))
      assert.strictEqual((yield* Effect.flip(Effect.provide(clone(one), breaking)))._tag, "RepoUnavailable")
      assert.deepStrictEqual(yield* files(one), {})
      assert.deepStrictEqual(yield* clone(one), { branch: firstBranch, commit: main })
      assert.deepStrictEqual(yield* files(one), { a: "1", b: "1" })
    }).pipe(Effect.provide(world))
  )
})
