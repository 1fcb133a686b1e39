import type { FileTree, TreeEntry } from "@castellan/domain/repo/FileTree.ts"
import { FileTrees, freshMs, hostTimeoutMs } from "@castellan/domain/repo/FileTrees.ts"
import { backoffMs } from "@castellan/domain/repo/HostBackoff.ts"
import { Repo, RepoName, RepoOwner } from "@castellan/domain/repo/Repo.ts"
import { RepoHost, RepoNotFound, RepoUnavailable } from "@castellan/domain/repo/RepoHost.ts"
import * as World from "@castellan/testkit/World.ts"
import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Effect, Exit, Fiber, Layer, Option } from "effect"
import { TestClock } from "effect/testing"

const repo = (name: string) => new Repo({ owner: RepoOwner.make("castellan"), name: RepoName.make(name) })
const one = repo("one")

type Answer = Effect.Effect<Option.Option<FileTree>, RepoNotFound | RepoUnavailable>

/** A host whose answer a test sets. Records its requests: the repository and the known revision. */
class Host extends Context.Service<
  Host,
  { readonly requests: Array<readonly [string, string | null]>; answer: (repo: Repo, known: string | null) => Answer }
>()("Host") {}

const tree = (revision: string, size = 0): FileTree => ({
  revision,
  entries: Array.from({ length: size }, () => ({ path: "path" }) as TreeEntry),
  truncated: false
})

const world = Layer.fresh(
  FileTrees.layer.pipe(
    Layer.provide(
      Layer.effect(
        RepoHost,
        Effect.gen(function* () {
          const real = yield* RepoHost
          const control = yield* Host
          return {
            ...real,
            tree: (repo: Repo, known: string | null) =>
              Effect.suspend(() => {
                control.requests.push([repo.name, known])
                return control.answer(repo, known)
              })
          }
        })
      ).pipe(Layer.provide(World.layer))
    ),
    Layer.provideMerge(Layer.sync(Host, () => ({ requests: [], answer: () => Effect.succeedSome(tree("first")) })))
  )
)

const readTree = (repo: Repo) => Effect.flatMap(FileTrees, (trees) => trees.tree(repo))

const unavailable = (retryAfterMs: number | null = null) =>
  new RepoUnavailable({ operation: "tree", retryable: true, retryAfterMs })

describe("FileTrees", () => {
  it.effect("sends one request for concurrent callers, whatever the case of the name", () =>
    Effect.gen(function* () {
      const host = yield* Host
      const gate = yield* Deferred.make<void>()
      host.answer = () => Effect.as(Deferred.await(gate), Option.some(tree("first")))
      const all = Array.from({ length: 100 }, (_, n) => readTree(repo(n % 2 === 0 ? "one" : "ONE")))
      const fiber = yield* Effect.forkChild(Effect.all(all, { concurrency: "unbounded" }))
      yield* TestClock.adjust("1 second")
      yield* Deferred.succeed(gate, undefined)
      const seen = yield* Fiber.join(fiber)
      assert.deepStrictEqual(new Set(seen.map(({ revision }) => revision)), new Set(["first"]))
      assert.strictEqual(host.requests.length, 1)
    }).pipe(Effect.provide(world))
  )

  it.effect("returns a fresh tree from the cache, then asks the host with the known revision", () =>
    Effect.gen(function* () {
      const host = yield* Host
      yield* readTree(one)
      yield* TestClock.adjust(freshMs - 1)
      yield* readTree(one)
      assert.deepStrictEqual(host.requests, [["one", null]])
      host.answer = () => Effect.succeedNone
      yield* TestClock.adjust(1)
      assert.strictEqual((yield* readTree(one)).revision, "first")
      assert.deepStrictEqual(host.requests.slice(1), [["one", "first"]])
      yield* TestClock.adjust(freshMs - 1)
      yield* readTree(one)
      assert.strictEqual(host.requests.length, 2)
    }).pipe(Effect.provide(world))
  )

  it.effect("refreshes an old tree although the system clock was set back", () =>
    Effect.gen(function* () {
      const host = yield* Host
      const now = 1_800_000_000_000
      yield* TestClock.setTime(now)
      yield* readTree(one)
      yield* TestClock.setTime(now - 26 * 24 * 60 * 60 * 1000)
      yield* TestClock.adjust(freshMs)
      yield* readTree(one)
      assert.strictEqual(host.requests.length, 2)
    }).pipe(Effect.provide(world))
  )

  it.effect("asks again for a forgotten tree, even if an answer was pending", () =>
    Effect.gen(function* () {
      const host = yield* Host
      const gate = yield* Deferred.make<void>()
      host.answer = () => Effect.as(Deferred.await(gate), Option.some(tree("before")))
      const early = yield* Effect.forkChild(readTree(one), { startImmediately: true })
      yield* TestClock.adjust("1 second")
      yield* (yield* FileTrees).forget(one)
      host.answer = () => Effect.succeedSome(tree("after"))
      assert.strictEqual((yield* readTree(one)).revision, "after")
      yield* Deferred.succeed(gate, undefined)
      assert.strictEqual((yield* Fiber.join(early)).revision, "before")
      assert.strictEqual((yield* readTree(one)).revision, "after")
    }).pipe(Effect.provide(world))
  )

  it.effect("backs off after a failure, and fails at once in the meantime", () =>
    Effect.gen(function* () {
      const host = yield* Host
      host.answer = () => Effect.fail(unavailable())
      for (let n = 0; n < 20; n++) assert.strictEqual((yield* Effect.flip(readTree(one)))._tag, "RepoUnavailable")
      assert.strictEqual(host.requests.length, 1)
      host.answer = () => Effect.succeedSome(tree("well"))
      assert.strictEqual((yield* readTree(repo("other"))).revision, "well")
      yield* TestClock.adjust(backoffMs.min - 1)
      yield* Effect.flip(readTree(one))
      yield* TestClock.adjust(1)
      assert.strictEqual((yield* readTree(one)).revision, "well")
    }).pipe(Effect.provide(world))
  )

  it.effect("asks again after a failure once the repository was changed", () =>
    Effect.gen(function* () {
      const host = yield* Host
      host.answer = () => Effect.fail(unavailable())
      yield* Effect.flip(readTree(one))
      host.answer = () => Effect.succeedSome(tree("well"))
      yield* (yield* FileTrees).forget(one)
      assert.strictEqual((yield* readTree(one)).revision, "well")
    }).pipe(Effect.provide(world))
  )

  it.effect("asks for no tree until the host's retry time, an hour at most", () =>
    Effect.gen(function* () {
      const host = yield* Host
      yield* readTree(repo("fresh"))
      host.answer = () => Effect.fail(unavailable(60_000))
      yield* Effect.flip(readTree(one))
      host.answer = () => Effect.fail(unavailable(10 * backoffMs.max))
      yield* Effect.flip(readTree(repo("other")))
      assert.strictEqual((yield* readTree(repo("fresh"))).revision, "first")
      assert.strictEqual(host.requests.length, 2)
      yield* TestClock.adjust(60_000)
      yield* Effect.flip(readTree(repo("other")))
      yield* TestClock.adjust(backoffMs.max)
      assert.strictEqual(host.requests.length, 3)
      host.answer = () => Effect.succeedSome(tree("well"))
      assert.strictEqual((yield* readTree(repo("other"))).revision, "well")
    }).pipe(Effect.provide(world))
  )

  it.effect("waits once for a slow host, and returns its tree when it arrives", () =>
    Effect.gen(function* () {
      const host = yield* Host
      const gate = yield* Deferred.make<void>()
      host.answer = () => Effect.as(Deferred.await(gate), Option.some(tree("late")))
      const first = yield* Effect.forkChild(Effect.exit(readTree(one)), { startImmediately: true })
      yield* TestClock.adjust(hostTimeoutMs / 2)
      const second = yield* Effect.forkChild(Effect.exit(readTree(one)), { startImmediately: true })
      yield* TestClock.adjust(hostTimeoutMs / 2)
      assert.isTrue(Exit.isFailure(yield* Fiber.join(first)))
      assert.isTrue(Exit.isFailure(yield* Fiber.join(second)))
      for (let n = 0; n < 10; n++) yield* Effect.flip(readTree(one))
      assert.strictEqual(host.requests.length, 1)
      yield* Deferred.succeed(gate, undefined)
      yield* TestClock.adjust(1)
      assert.strictEqual((yield* readTree(one)).revision, "late")
      assert.strictEqual(host.requests.length, 1)
    }).pipe(Effect.provide(world))
  )

  it.effect("answers all waiting callers although the first one was interrupted", () =>
    Effect.gen(function* () {
      const host = yield* Host
      const gate = yield* Deferred.make<void>()
      host.answer = () => Effect.as(Deferred.await(gate), Option.some(tree("first")))
      const first = yield* Effect.forkChild(readTree(one), { startImmediately: true })
      const second = yield* Effect.forkChild(readTree(one), { startImmediately: true })
      yield* Fiber.interrupt(first)
      yield* Deferred.succeed(gate, undefined)
      assert.strictEqual((yield* Fiber.join(second)).revision, "first")
      assert.strictEqual(host.requests.length, 1)
    }).pipe(Effect.provide(world))
  )

  it.effect("drops the tree of a repository that no longer exists", () =>
    Effect.gen(function* () {
      const host = yield* Host
      yield* readTree(one)
      yield* TestClock.adjust(freshMs)
      host.answer = () => Effect.fail(new RepoNotFound({ repo: one }))
      assert.strictEqual((yield* Effect.flip(readTree(one)))._tag, "RepoNotFound")
      host.answer = () => Effect.succeedSome(tree("another"))
      assert.strictEqual((yield* readTree(one)).revision, "another")
      assert.deepStrictEqual(
        host.requests.map(([, known]) => known),
        [null, "first", null]
      )
    }).pipe(Effect.provide(world))
  )

  it.effect("limits the pending reads of an account, so that others are not delayed", () =>
    Effect.gen(function* () {
      const host = yield* Host
      const trees = yield* FileTrees
      const gate = yield* Deferred.make<void>()
      host.answer = () => Effect.as(Deferred.await(gate), Option.some(tree("slow")))
      const slow = yield* Effect.forEach(["a", "b"], (name) =>
        Effect.forkChild(trees.tree(repo(name), "service", "attacker"), { startImmediately: true })
      )
      yield* TestClock.adjust("1 second")
      for (const name of ["c", "d"]) {
        assert.strictEqual((yield* Effect.flip(trees.tree(repo(name), "service", "attacker")))._tag, "RepoUnavailable")
      }
      assert.strictEqual(host.requests.length, 2)
      host.answer = () => Effect.succeedSome(tree("quick"))
      assert.strictEqual((yield* trees.tree(repo("e"), "service", "other")).revision, "quick")
      // A read is pending until the host has answered, even without waiting callers.
      yield* TestClock.adjust(hostTimeoutMs)
      for (const fiber of slow) assert.isTrue(Exit.isFailure(yield* Fiber.await(fiber)))
      yield* Effect.flip(trees.tree(repo("c"), "service", "attacker"))
      yield* Deferred.succeed(gate, undefined)
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* trees.tree(repo("c"), "service", "attacker")).revision, "quick")
    }).pipe(Effect.provide(world))
  )

  it.effect("limits the concurrent reads of all accounts", () =>
    Effect.gen(function* () {
      const host = yield* Host
      const gate = yield* Deferred.make<void>()
      host.answer = () => Effect.as(Deferred.await(gate), Option.some(tree("slow")))
      const looks = Array.from({ length: 100 }, (_, n) =>
        Effect.forkChild(readTree(repo(`slow-${n}`)), { startImmediately: true })
      )
      yield* Effect.all(looks)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(host.requests.length, 32)
      yield* Deferred.succeed(gate, undefined)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(host.requests.length, 100)
    }).pipe(Effect.provide(world))
  )

  it.effect("drops the least recently read trees when they take too much memory", () =>
    Effect.gen(function* () {
      const host = yield* Host
      host.answer = () => Effect.succeedSome(tree("large", 200_000))
      for (const name of ["a", "b", "c"]) yield* readTree(repo(name))
      host.answer = () => Effect.succeedSome(tree("again", 1))
      yield* readTree(repo("b"))
      yield* readTree(repo("c"))
      assert.strictEqual(host.requests.length, 3)
      yield* readTree(repo("a"))
      assert.deepStrictEqual(host.requests[3], ["a", null])
    }).pipe(Effect.provide(world))
  )
})
