import type { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { firstBranch, Repo, RepoName, RepoOwner } from "@castellan/domain/repo/Repo.ts"
import { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import { ImageKey } from "@castellan/domain/sandbox/BaseImage.ts"
import { BaseImages } from "@castellan/domain/sandbox/BaseImages.ts"
import { BaseImageStore } from "@castellan/domain/sandbox/BaseImageStore.ts"
import { EventStore } from "@castellan/domain/sandbox/EventStore.ts"
import { SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Reconciler } from "@castellan/domain/session/Reconciler.ts"
import type { SessionId } from "@castellan/domain/session/Session.ts"
import { Sessions } from "@castellan/domain/session/Sessions.ts"
import { SessionStore } from "@castellan/domain/session/SessionStore.ts"
import { TaskRunner } from "@castellan/domain/task/TaskRunner.ts"
import { TaskRunStore } from "@castellan/domain/task/TaskRunStore.ts"
import { author } from "@castellan/testkit/fakes/repo/MemoryAuthor.ts"
import { workspace } from "@castellan/domain/repo/Checkout.ts"
import { MemoryRepos } from "@castellan/testkit/fakes/repo/MemoryRepoHost.ts"
import { MemorySandboxes } from "@castellan/testkit/fakes/sandbox/MemorySandbox.ts"
import { crashAtEachCall } from "@castellan/testkit/crashAtEachCall.ts"
import * as Faults from "@castellan/testkit/Faults.ts"
import * as World from "@castellan/testkit/World.ts"
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Duration, Effect, Fiber, Layer, Logger, Option, Stream } from "effect"
import { TestClock } from "effect/testing"
import { makeOlder } from "./older.ts"
import { useCases } from "./useCases.ts"

/** One server process over ports that outlive it. Each port has a decorator that can kill the process. */
const life = Layer.fresh(
  useCases().pipe(
    Layer.provideMerge(
      Layer.mergeAll(
        Faults.around(SessionStore, "SessionStore"),
        Faults.around(BaseImageStore, "BaseImageStore"),
        Faults.around(SandboxProvider, "SandboxProvider"),
        Faults.around(RepoHost, "RepoHost"),
        Faults.around(TaskRunner, "TaskRunner"),
        Faults.around(TaskRunStore, "TaskRunStore")
      )
    )
  )
)
type Living = Layer.Success<typeof life | typeof world>

const world = Layer.mergeAll(World.layer, Faults.Faults.layer, Logger.layer([]))

const url = "https://public.memory.test/somebody/work"
const repo = new Repo({ owner: RepoOwner.make("somebody"), name: RepoName.make("work") })
const keyOf = ({ account }: AccountScope) => ImageKey.make(`${account}/anyone/somebody/work:workspace`)

const publish = Effect.gen(function* () {
  const writer = yield* author
  const commit = yield* writer.commit({ "README.md": "hello" })
  yield* (yield* MemoryRepos).publish(repo, yield* writer.bundle({ [firstBranch]: commit }))
})

/** Advances the clock while the reconciler and the workers work. */
const pass = Effect.fnUntraced(function* (duration: Duration.Input, every: Duration.Input = "20 seconds") {
  const { pass } = yield* Reconciler
  for (let left = Duration.toMillis(duration); left > 0; left -= Duration.toMillis(every)) {
    yield* Effect.forkChild(pass.pipe(Effect.exit, Effect.delay(1)))
    yield* TestClock.adjust(every)
  }
})

const create = Effect.fnUntraced(function* (scope: AccountScope) {
  const wanted = { title: null, repo: url, organization: null, nonce: Option.none() }
  return (yield* (yield* Sessions).create(scope, wanted)).id
})

const open = (scope: AccountScope, id: SessionId) =>
  Effect.flatMap(Sessions, (sessions) => sessions.open(scope, id, null))

const work = SandboxPath.make("work.txt")
const readme = SandboxPath.make("workspace/README.md")

const write = (name: SandboxName) =>
  Effect.flatMap(SandboxProvider, (provider) =>
    provider.writeFile(name, work, Stream.make(new TextEncoder().encode("mine")))
  )

interface Prepared {
  readonly id: SessionId
  readonly name: SandboxName
}

/** An open session with a file in its sandbox. */
const working = Effect.fnUntraced(function* (scope: AccountScope) {
  const id = yield* create(scope)
  const { sandbox } = yield* open(scope, id)
  yield* write(sandbox.name)
  return { id, name: sandbox.name }
})

const sleeping = Effect.fnUntraced(function* (scope: AccountScope) {
  const session = yield* working(scope)
  yield* (yield* Sessions).hibernate(scope, session.id)
  return session
})

const textIn = (name: SandboxName, path: SandboxPath) =>
  Effect.flatMap(SandboxProvider, (provider) =>
    Stream.mkString(Stream.decodeText(provider.readFile(name, path))).pipe(
      Effect.catchTag("FileNotFound", () => Effect.succeed(null))
    )
  )

/** Kills the server at every call that `doing` makes, once the repository exists. */
const atEachStep = <P, E1, E2, E3>(options: {
  readonly first: (scope: AccountScope) => Effect.Effect<P, E1, Living>
  readonly doing: (scope: AccountScope, prepared: P) => Effect.Effect<unknown, E2, Living>
  readonly later: (scope: AccountScope, when: string, prepared: P) => Effect.Effect<void, E3, Living>
}) =>
  crashAtEachCall({
    world,
    server: life,
    prepare: (scope) => Effect.andThen(Effect.scoped(publish), options.first(scope)),
    act: options.doing,
    verify: options.later
  })

const isTransitional = (state: string | null) =>
  state === "provisioning" || state === "restoring" || state === "hibernating"

/** No transition is unfinished, only active sessions run, and every sandbox and snapshot at the provider has a row. */
const isInOrder = Effect.fnUntraced(function* (scope: AccountScope, when: string) {
  const provider = yield* SandboxProvider
  const { rows } = yield* (yield* SessionStore).list(scope, { limit: 100, cursor: null })
  const image = Option.getOrUndefined(yield* (yield* BaseImageStore).find(keyOf(scope)))
  const names = [...rows.map(({ lifecycle }) => lifecycle.sandbox), image?.builder]
  for (const name of (yield* MemorySandboxes).names()) assert.include(names, name, when)
  for (const { lifecycle } of rows) {
    assert.isFalse(isTransitional(lifecycle.state), `${when}: it is ${lifecycle.state}`)
    if (lifecycle.sandbox === null) continue
    const found = Option.getOrUndefined(yield* provider.find(lifecycle.sandbox))
    const runs = found?.status === "running"
    assert.strictEqual(runs, lifecycle.state === "active", `${when}: it is ${lifecycle.state}`)
  }
})

/** Long enough for the other servers to finish all work. */
const settled = Effect.fnUntraced(function* (scope: AccountScope, when: string) {
  yield* pass("6 minutes")
  yield* isInOrder(scope, when)
})

const eventsOf = (scope: AccountScope) =>
  Effect.flatMap(EventStore, (store) =>
    Effect.map(store.read(scope, null, 1000), (placed) => placed.map(({ event }) => event.type))
  )

describe("Opening a session, when the server is killed at any step,", () => {
  it.effect("for the first time, ends with one sandbox with its repository, at once or when it is opened again", () =>
    Effect.gen(function* () {
      for (const atOnce of [true, false]) {
        const steps = yield* atEachStep({
          first: create,
          doing: open,
          later: Effect.fnUntraced(function* (scope, when, id) {
            if (!atOnce) yield* settled(scope, when)
            const opening = yield* Effect.forkChild(open(scope, id))
            for (let n = 0; n < 70 && opening.pollUnsafe() === undefined; n++) yield* TestClock.adjust("1 second")
            const { sandbox } = yield* Fiber.join(opening)
            assert.strictEqual(yield* textIn(sandbox.name, readme), "hello", when)
            yield* isInOrder(scope, when)
            yield* settled(scope, when)
          })
        })
        assert.includeMembers(steps, [
          "SessionStore.compareAndSet",
          "SandboxProvider.create",
          "RepoHost.fetch",
          "SandboxProvider.writeFile",
          "SandboxProvider.start"
        ])
      }
    })
  )

  it.effect("that is hibernated, ends with its files", () =>
    Effect.gen(function* () {
      const steps = yield* atEachStep({
        first: sleeping,
        doing: (scope, { id }: Prepared) => open(scope, id),
        later: Effect.fnUntraced(function* (scope, when, { id, name }: Prepared) {
          yield* settled(scope, when)
          yield* open(scope, id)
          assert.strictEqual(yield* textIn(name, work), "mine", when)
          assert.notInclude(yield* eventsOf(scope), "session.lost", when)
          yield* settled(scope, when)
        })
      })
      assert.includeMembers(steps, ["SessionStore.compareAndSet", "SandboxProvider.find", "SandboxProvider.resume"])
    })
  )

  it.effect("whose files are in the home directory, ends with them in its workspace", () =>
    Effect.gen(function* () {
      const steps = yield* atEachStep({
        first: Effect.fnUntraced(function* (scope) {
          const id = yield* create(scope)
          yield* open(scope, id)
          const name = yield* makeOlder(scope, id)
          yield* write(name)
          yield* (yield* Sessions).hibernate(scope, id)
          return { id, name }
        }),
        doing: (scope, { id }: Prepared) => open(scope, id),
        later: Effect.fnUntraced(function* (scope, when, { id, name }: Prepared) {
          yield* settled(scope, when)
          const { session } = yield* open(scope, id)
          assert.isTrue(session.lifecycle.workspace, when)
          assert.strictEqual(yield* textIn(name, SandboxPath.make(`${workspace}/${work}`)), "mine", when)
          assert.strictEqual(yield* textIn(name, readme), "hello", when)
          assert.isNull(yield* textIn(name, work), when)
          assert.notInclude(yield* eventsOf(scope), "session.lost", when)
          yield* settled(scope, when)
        })
      })
      assert.includeMembers(steps, ["SessionStore.compareAndSet", "SandboxProvider.resume", "SandboxProvider.start"])
    })
  )

  it.effect("whose sandbox is lost, ends with a new one with its repository, and emits one loss event", () =>
    Effect.gen(function* () {
      const steps = yield* atEachStep({
        first: Effect.fnUntraced(function* (scope) {
          const session = yield* working(scope)
          yield* (yield* SandboxProvider).remove(session.name)
          return session
        }),
        doing: (scope, { id }: Prepared) => open(scope, id),
        later: Effect.fnUntraced(function* (scope, when, { id, name }: Prepared) {
          yield* settled(scope, when)
          yield* open(scope, id)
          assert.strictEqual(yield* textIn(name, readme), "hello", when)
          assert.strictEqual((yield* eventsOf(scope)).filter((type) => type === "session.lost").length, 1, when)
          yield* settled(scope, when)
        })
      })
      assert.includeMembers(steps, ["SessionStore.compareAndSet", "SandboxProvider.create", "SandboxProvider.start"])
    })
  )

  it.effect("that is ephemeral, leaves nothing behind", () =>
    Effect.gen(function* () {
      const steps = yield* atEachStep({
        first: () => Effect.void,
        doing: Effect.fnUntraced(function* (scope) {
          yield* (yield* Sessions).openOnce(scope, url, Option.none())
          yield* pass("8 minutes")
        }),
        later: Effect.fnUntraced(function* (scope, when) {
          yield* pass("15 minutes")
          assert.deepStrictEqual((yield* MemorySandboxes).names(), [], when)
          const events = yield* eventsOf(scope)
          const ofType = (type: string) => events.filter((other) => other === type).length
          assert.strictEqual(ofType("session.removed"), ofType("session.created"), when)
        })
      })
      assert.includeMembers(steps, ["SessionStore.add", "SandboxProvider.create", "SandboxProvider.remove"])
    })
  )
})

describe("Hibernating or archiving a session, when the server is killed at any step,", () => {
  it.effect("ends with a hibernated session with its files, at the latest when it is idle", () =>
    Effect.gen(function* () {
      const steps = yield* atEachStep({
        first: working,
        doing: Effect.fnUntraced(function* (scope, { id }: Prepared) {
          yield* (yield* Sessions).hibernate(scope, id)
        }),
        later: Effect.fnUntraced(function* (scope, when, { id, name }: Prepared) {
          yield* settled(scope, when)
          const { lifecycle } = yield* (yield* Sessions).get(scope, id)
          assert.strictEqual(lifecycle.state, "hibernated", when)
          yield* open(scope, id)
          assert.strictEqual(yield* textIn(name, work), "mine", when)
        })
      })
      assert.includeMembers(steps, ["SessionStore.compareAndSet", "SandboxProvider.stop"])
    })
  )

  it.effect("ends with an archived session or an unchanged one, and its files can be restored", () =>
    Effect.gen(function* () {
      for (const first of [working, sleeping]) {
        const steps = yield* atEachStep({
          first,
          doing: Effect.fnUntraced(function* (scope, { id }: Prepared) {
            yield* (yield* Sessions).change(scope, id, { status: "archived" })
          }),
          later: Effect.fnUntraced(function* (scope, when, { id, name }: Prepared) {
            const sessions = yield* Sessions
            yield* settled(scope, when)
            const { lifecycle, status } = yield* sessions.get(scope, id)
            assert.strictEqual(lifecycle.state, status === "archived" ? "archived" : "hibernated", when)
            yield* sessions.change(scope, id, { status: "running" })
            yield* open(scope, id)
            assert.strictEqual(yield* textIn(name, work), "mine", when)
          })
        })
        assert.include(steps, "SessionStore.compareAndSet")
      }
    })
  )

  it.effect("by the reconciler, ends with a hibernated session with its files", () =>
    Effect.gen(function* () {
      const steps = yield* atEachStep({
        first: Effect.fnUntraced(function* (scope) {
          const session = yield* working(scope)
          yield* TestClock.adjust("5 minutes")
          return session
        }),
        doing: () => pass("1 minute"),
        later: Effect.fnUntraced(function* (scope, when, { id, name }: Prepared) {
          yield* settled(scope, when)
          assert.strictEqual((yield* (yield* Sessions).get(scope, id)).lifecycle.state, "hibernated", when)
          yield* open(scope, id)
          assert.strictEqual(yield* textIn(name, work), "mine", when)
        })
      })
      assert.includeMembers(steps, ["SessionStore.claimDue", "SandboxProvider.findMany", "SandboxProvider.stop"])
    })
  )
})

const housekeeping = Effect.flatMap(BaseImages, ({ collect }) => collect)

/** More than a day later a session is opened again, and housekeeping has run. */
const builtInTheEnd = Effect.fnUntraced(function* (scope: AccountScope, when: string) {
  yield* pass("4 minutes")
  yield* open(scope, yield* create(scope))
  yield* pass("10 minutes", "1 minute")
  yield* housekeeping
  const image = Option.getOrThrow(yield* (yield* BaseImages).find(keyOf(scope)))
  assert.isNull(image.builder, when)
  assert.deepStrictEqual(image.replaced, [], when)
  assert.deepStrictEqual((yield* MemorySandboxes).snapshots(), [image.current!], when)
  yield* isInOrder(scope, when)
  const { sandbox } = yield* open(scope, yield* create(scope))
  assert.strictEqual(yield* textIn(sandbox.name, readme), "hello", when)
  return image
})

describe("Building a base image, when the server is killed at any step,", () => {
  it.effect("for the first time, ends with one image and nothing else once a session is opened again", () =>
    Effect.gen(function* () {
      const steps = yield* atEachStep({
        first: () => Effect.void,
        doing: Effect.fnUntraced(function* (scope) {
          yield* open(scope, yield* create(scope))
          yield* pass("2 minutes")
        }),
        later: builtInTheEnd
      })
      assert.includeMembers(steps, [
        "TaskRunner.enqueue",
        "BaseImageStore.claimBuild",
        "SandboxProvider.snapshot",
        "SandboxProvider.remove",
        "BaseImageStore.completeBuild"
      ])
    })
  )

  it.effect("to replace an old image, or after a build that was killed, ends with one image, too", () =>
    Effect.gen(function* () {
      const old = Effect.fnUntraced(function* (scope: AccountScope) {
        yield* open(scope, yield* create(scope))
        yield* pass("1 minute")
        yield* pass("10 minutes", "1 minute")
        yield* TestClock.adjust("24 hours")
      })
      const abandoned = Effect.fnUntraced(function* (scope: AccountScope) {
        yield* old(scope)
        const now = yield* DateTime.now
        const builder = SandboxName.make("img_abandoned")
        const claim = { key: keyOf(scope), account: scope.account, builder, until: now, staleBefore: now }
        assert.isTrue(Option.isSome(yield* (yield* BaseImageStore).claimBuild(claim, now)))
        const spec = { name: builder, from: Option.none(), lifetime: Duration.minutes(20) }
        yield* (yield* SandboxProvider).create(spec)
        yield* (yield* SandboxProvider).snapshot(builder)
      })
      for (const first of [old, abandoned]) {
        const steps = yield* atEachStep({
          first,
          doing: Effect.fnUntraced(function* (scope) {
            yield* open(scope, yield* create(scope))
            yield* pass("2 minutes")
          }),
          later: Effect.fnUntraced(function* (scope, when) {
            yield* builtInTheEnd(scope, when)
          })
        })
        assert.includeMembers(steps, ["SandboxProvider.create"])
      }
    })
  )
})
