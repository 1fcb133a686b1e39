import { workspace } from "@castellan/domain/repo/Checkout.ts"
import { CheckoutFailed, Checkouts } from "@castellan/domain/repo/Checkouts.ts"
import { type CommitId, firstBranch, Repo, RepoName, RepoOwner } from "@castellan/domain/repo/Repo.ts"
import { PushRejected, RepoHost, RepoUnavailable } from "@castellan/domain/repo/RepoHost.ts"
import { Sandboxes } from "@castellan/domain/sandbox/Sandboxes.ts"
import { SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import type { Author } from "@castellan/testkit/contracts/RepoHost/Author.ts"
import { author as newAuthor } from "@castellan/testkit/fakes/repo/MemoryAuthor.ts"
import { MemoryRepos } from "@castellan/testkit/fakes/repo/MemoryRepoHost.ts"
import * as World from "@castellan/testkit/World.ts"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Layer, Option, Stream } from "effect"

const sandbox = SandboxName.make("sbx_one")
const repo = new Repo({ owner: RepoOwner.make("castellan"), name: RepoName.make("one") })
const author = { name: "Castellan", email: "castellan@noreply.invalid" }
const options = { branch: firstBranch, message: "Update the workspace", author, title: "one" }

const over = <E, R>(host: Layer.Layer<RepoHost, E, R>) =>
  Checkouts.layer.pipe(Layer.provideMerge(Sandboxes.layer), Layer.provideMerge(host), Layer.provide(World.crypto))

const world = Layer.fresh(over(Layer.effect(RepoHost, RepoHost)).pipe(Layer.provideMerge(World.layer)))

const utf8 = new TextEncoder()

/** A running sandbox, an empty repository, and another author who pushes to it. */
const fixture = Effect.gen(function* () {
  const provider = yield* SandboxProvider
  yield* provider.create({ name: sandbox, from: Option.none(), lifetime: Duration.minutes(30) })
  yield* (yield* RepoHost).ensure(repo)
  return yield* newAuthor
}).pipe(Effect.scoped)

const write = (path: string, text: string) =>
  Effect.flatMap(Sandboxes, (sandboxes) =>
    sandboxes.writeFile(sandbox, SandboxPath.make(`${workspace}/${path}`), Stream.make(utf8.encode(text)))
  )

const read = Effect.fnUntraced(function* (path: string) {
  const chunks = yield* Stream.runCollect(
    (yield* Sandboxes).readFile(sandbox, SandboxPath.make(`${workspace}/${path}`))
  )
  return Buffer.concat(chunks).toString()
})

const sync = Effect.flatMap(Checkouts, (checkouts) => checkouts.sync(sandbox, repo, options))

/** The repository's files, by path. */
const inRepository = Effect.map(MemoryRepos, (repos) =>
  Object.fromEntries(
    Array.from(repos.commit(repo)?.files ?? [], ([path, { bytes }]) => [path, String(Buffer.from(bytes))])
  )
)

/** The branch as a bundle, without `have` and its ancestors. */
const bundleOf = Effect.fnUntraced(function* (have: ReadonlyArray<CommitId>) {
  const fetched = yield* (yield* RepoHost).fetch(repo, firstBranch, have, "service")
  const bundle = Option.flatMap(fetched, ({ bundle }) => bundle)
  return Option.isNone(bundle) ? Buffer.of() : Buffer.concat(yield* Stream.runCollect(bundle.value))
}, Effect.scoped)

/** Pushes another author's commit of these files on top of a parent. */
const pushed = Effect.fnUntraced(function* (other: Author, files: Readonly<Record<string, string>>, parent?: CommitId) {
  if (parent !== undefined) yield* Effect.orDie(other.unbundle(yield* bundleOf([])))
  const commit = yield* other.commit(files, parent === undefined ? [] : [parent])
  yield* (yield* RepoHost).push(repo, firstBranch, Stream.make(yield* other.bundle({ main: commit })))
  return commit
})

/** Whether the repository's branch contains a commit. */
const contains = Effect.fnUntraced(function* (commit: CommitId) {
  return (yield* bundleOf([commit])).length < (yield* bundleOf([])).length
})

describe("Checkouts.sync", () => {
  it.effect("pushes the sandbox's files to an empty repository, or a README if there are none", () =>
    Effect.gen(function* () {
      yield* fixture
      const first = yield* sync
      assert.deepStrictEqual(yield* inRepository, { "README.md": "# one\n" })
      assert.strictEqual((yield* MemoryRepos).commit(repo)?.id, first)
      yield* write("notes/plan.md", "a plan")
      yield* sync
      assert.deepStrictEqual(yield* inRepository, { "README.md": "# one\n", "notes/plan.md": "a plan" })
    }).pipe(Effect.provide(world))
  )

  it.effect("changes and pushes nothing if both have the same commit", () =>
    Effect.gen(function* () {
      yield* fixture
      const first = yield* sync
      const pushes: Array<string> = []
      const counted = Layer.effect(
        RepoHost,
        Effect.map(RepoHost, (real): RepoHost["Service"] => ({
          ...real,
          push: (repo, branch, bundle) => {
            pushes.push(branch)
            return real.push(repo, branch, bundle)
          }
        }))
      )
      const again = yield* sync.pipe(Effect.provide(Layer.fresh(over(counted))))
      assert.deepStrictEqual([again, pushes], [first, []])
    }).pipe(Effect.provide(world))
  )

  it.effect("checks out the repository if the sandbox is empty", () =>
    Effect.gen(function* () {
      const other = yield* fixture
      const theirs = yield* pushed(other, { "a/file": "theirs" })
      assert.strictEqual(yield* sync, theirs)
      assert.strictEqual(yield* read("a/file"), "theirs")
      assert.deepStrictEqual(yield* inRepository, { "a/file": "theirs" })
    }).pipe(Effect.provide(world))
  )

  it.effect("merges two unrelated histories", () =>
    Effect.gen(function* () {
      const other = yield* fixture
      yield* pushed(other, { theirs: "1", both: "theirs" })
      yield* write("ours", "2")
      yield* write("both", "ours")
      yield* sync
      assert.deepStrictEqual(yield* inRepository, { theirs: "1", ours: "2", both: "ours" })
      assert.strictEqual(yield* read("theirs"), "1")
    }).pipe(Effect.provide(world))
  )

  it.effect("keeps both commits in the history, and the sandbox's lines where they conflict", () =>
    Effect.gen(function* () {
      const other = yield* fixture
      yield* write("both", "before")
      yield* write("gone", "before")
      const base = yield* sync
      const theirs = yield* pushed(other, { both: "theirs", new: "theirs" }, base)
      yield* write("both", "ours")
      yield* write("mine", "ours")
      const after = yield* sync
      assert.deepStrictEqual(yield* inRepository, { both: "ours", mine: "ours", new: "theirs" })
      assert.deepStrictEqual([yield* read("both"), yield* read("new")], ["ours", "theirs"])
      assert.isTrue(yield* contains(theirs))
      assert.strictEqual((yield* MemoryRepos).commit(repo)?.parents.length, 2)
      assert.strictEqual(yield* sync, after)
    }).pipe(Effect.provide(world))
  )

  it.effect("merges again if others push between its merge and its push, and drops none of their commits", () =>
    Effect.gen(function* () {
      const other = yield* fixture
      let parent = yield* sync
      yield* write("mine", "ours")
      let rounds = 3
      const contested = Layer.effect(
        RepoHost,
        Effect.map(RepoHost, (real): RepoHost["Service"] => ({
          ...real,
          push: (repo, branch, bundle) =>
            Effect.gen(function* () {
              if (rounds-- > 0) {
                const files = Object.fromEntries(Array.from({ length: 3 - rounds }, (_, n) => [`theirs-${n}`, "1"]))
                parent = yield* pushed(other, { "README.md": "# one\n", ...files }, parent).pipe(
                  Effect.provideService(RepoHost, real),
                  Effect.orDie
                )
              }
              return yield* real.push(repo, branch, bundle)
            })
        }))
      )
      yield* sync.pipe(Effect.provide(Layer.fresh(over(contested))))
      const files = Object.keys(yield* inRepository).toSorted()
      assert.deepStrictEqual(files, ["README.md", "mine", "theirs-0", "theirs-1", "theirs-2"])
      assert.isTrue(yield* contains(parent))
    }).pipe(Effect.provide(world))
  )

  it.effect("fails with a sentence if others keep pushing", () =>
    Effect.gen(function* () {
      yield* fixture
      let pushes = 0
      const never = Layer.effect(
        RepoHost,
        Effect.map(RepoHost, (real): RepoHost["Service"] => ({
          ...real,
          push: (repo, branch) =>
            Effect.suspend(() => {
              pushes++
              return Effect.fail(new PushRejected({ repo, branch }))
            })
        }))
      )
      const failure = yield* Effect.flip(sync).pipe(Effect.provide(Layer.fresh(over(never))))
      assert.deepStrictEqual(
        { ...failure },
        { ...new CheckoutFailed({ reason: "Others kept pushing to the repository" }) }
      )
      assert.strictEqual(pushes, 10)
    }).pipe(Effect.provide(world))
  )

  it.effect("fails if the sandbox stops before the push, and succeeds once it runs again", () =>
    Effect.gen(function* () {
      yield* fixture
      yield* write("mine", "ours")
      const provider = yield* SandboxProvider
      const stopping = Layer.effect(
        RepoHost,
        Effect.map(RepoHost, (real): RepoHost["Service"] => ({
          ...real,
          push: (repo, branch, bundle) =>
            Effect.andThen(Effect.orDie(provider.stop(sandbox)), real.push(repo, branch, bundle))
        }))
      )
      const failure = yield* Effect.flip(sync).pipe(Effect.provide(Layer.fresh(over(stopping))))
      assert.strictEqual(failure._tag, "SandboxNotRunning")
      yield* provider.resume(sandbox, Duration.minutes(30))
      yield* sync
      assert.deepStrictEqual(yield* inRepository, { mine: "ours" })
    }).pipe(Effect.provide(world))
  )

  it.effect("continues after an attempt that was interrupted after its push", () =>
    Effect.gen(function* () {
      const other = yield* fixture
      yield* write("mine", "ours")
      const broken = Layer.effect(
        RepoHost,
        Effect.map(RepoHost, (real): RepoHost["Service"] => ({
          ...real,
          push: (repo, branch, bundle) =>
            Effect.andThen(
              real.push(repo, branch, bundle),
              new RepoUnavailable({ operation: "push", retryable: true, retryAfterMs: null })
            )
        }))
      )
      yield* Effect.flip(sync).pipe(Effect.provide(Layer.fresh(over(broken))))
      const theirs = yield* pushed(other, { mine: "ours", more: "theirs" }, (yield* MemoryRepos).commit(repo)!.id)
      assert.strictEqual(yield* sync, theirs)
      assert.strictEqual(yield* read("more"), "theirs")
    }).pipe(Effect.provide(world))
  )
})
