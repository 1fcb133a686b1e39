import { permanent } from "@castellan/domain/FailureReason.ts"
import { Account, AccountId } from "@castellan/domain/identity/Account.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { workspace } from "@castellan/domain/repo/Checkout.ts"
import { firstBranch, Repo, RepoName, RepoOwner } from "@castellan/domain/repo/Repo.ts"
import { Command } from "@castellan/domain/sandbox/Command.ts"
import { ImageKey } from "@castellan/domain/sandbox/BaseImage.ts"
import { BaseImages } from "@castellan/domain/sandbox/BaseImages.ts"
import { EventStore } from "@castellan/domain/sandbox/EventStore.ts"
import { SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider, SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { SandboxQuotaReached } from "@castellan/domain/sandbox/SandboxQuota.ts"
import { Reconciler } from "@castellan/domain/session/Reconciler.ts"
import { defaultTimes } from "@castellan/domain/session/decide.ts"
import type { Session, SessionId } from "@castellan/domain/session/Session.ts"
import { Sessions } from "@castellan/domain/session/Sessions.ts"
import { SessionNotProvisioned } from "@castellan/domain/session/SessionSandboxes.ts"
import { SessionStore } from "@castellan/domain/session/SessionStore.ts"
import { CommandRunOutput } from "@castellan/domain/task/CommandRun.ts"
import { TaskRuns } from "@castellan/domain/task/TaskRuns.ts"
import { TaskRunner } from "@castellan/domain/task/TaskRunner.ts"
import { Step, stepper } from "@castellan/testkit/Program.ts"
import { author } from "@castellan/testkit/fakes/repo/MemoryAuthor.ts"
import { MemoryRepos } from "@castellan/testkit/fakes/repo/MemoryRepoHost.ts"
import { MemorySandboxes } from "@castellan/testkit/fakes/sandbox/MemorySandbox.ts"
import * as given from "@castellan/testkit/given.ts"
import * as World from "@castellan/testkit/World.ts"
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Duration, Effect, Exit, Fiber, Layer, Logger, Option, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import { useCases } from "./useCases.ts"
import { makeOlder } from "./older.ts"
import { layer as faultyProvider, Trouble, ProviderFaults } from "./ProviderFaults.ts"

const worldOf = (cases: ReturnType<typeof useCases>) =>
  cases.pipe(Layer.provideMerge(faultyProvider), Layer.provideMerge(World.layer), Layer.provideMerge(Logger.layer([])))

const world = worldOf(useCases())

/** The use cases with a limit of awake sessions per account. */
const narrow = (liveAtMost: number) => worldOf(useCases(defaultTimes, liveAtMost))

const asked = { title: null, repo: null, organization: null, nonce: Option.none() }

/** A new session of a new account. */
const session = Effect.gen(function* () {
  const scope = yield* given.scope
  const { id } = yield* (yield* Sessions).create(scope, asked)
  return { scope, id }
})

const open = (scope: AccountScope, id: SessionId) =>
  Effect.flatMap(Sessions, (sessions) => sessions.open(scope, id, null))

/** A new session that was opened. */
const opened = Effect.gen(function* () {
  const { id, scope } = yield* session
  const { sandbox } = yield* open(scope, id)
  return { scope, id, sandbox, name: sandbox.name }
})

const known = (scope: AccountScope, id: SessionId) =>
  Effect.flatMap(SessionStore, (store) => Effect.map(store.get(scope, id), Option.getOrThrow))

const stateOf = (scope: AccountScope, id: SessionId) => Effect.map(known(scope, id), ({ lifecycle }) => lifecycle.state)

const path = SandboxPath.make("work.txt")
const utf8 = new TextEncoder()

const write = (name: SandboxName, text: string) =>
  Effect.flatMap(SandboxProvider, (provider) => provider.writeFile(name, path, Stream.make(utf8.encode(text))))

const writeAt = (name: SandboxName, at: string, text: string) =>
  Effect.flatMap(SandboxProvider, (provider) =>
    provider.writeFile(name, SandboxPath.make(at), Stream.make(utf8.encode(text)))
  )

/** The content of a file; null if there is none. */
const read = (name: SandboxName, at = path) =>
  Effect.flatMap(SandboxProvider, (provider) =>
    Stream.mkString(Stream.decodeText(provider.readFile(name, at))).pipe(
      Effect.catchTag("FileNotFound", () => Effect.succeed(null))
    )
  )

const statusOf = (name: SandboxName) =>
  Effect.flatMap(SandboxProvider, (provider) =>
    Effect.map(provider.find(name), (found) => Option.getOrUndefined(found)?.status)
  )

const eventsOf = (scope: AccountScope) =>
  Effect.flatMap(EventStore, (store) =>
    Effect.map(store.read(scope, null, 1000), (placed) => placed.map(({ event }) => event.type.replace("session.", "")))
  )

/** Runs everything that is due, without advancing the clock. */
const aMoment = TestClock.adjust(0)

/** Advances the clock while the reconciler works. */
const pass = Effect.fnUntraced(function* (duration: Duration.Input, every: Duration.Input = "1 second") {
  const reconciler = yield* Reconciler
  const steps = Math.ceil(Duration.toMillis(duration) / Duration.toMillis(every))
  for (let step = 0; step < steps; step++) {
    yield* TestClock.adjust(every)
    yield* Effect.forkChild(reconciler.pass)
    yield* aMoment
  }
})

const countOf = (method: string) =>
  Effect.map(ProviderFaults, ({ calls }) => calls.filter((call) => call.method === method).length)

const callsDuring = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const { calls } = yield* ProviderFaults
    const before = calls.length
    yield* effect
    return calls.slice(before).map(({ method }) => method)
  })

const sleep = (seconds: number) => new Command({ command: "sleep", args: [`${seconds}`], cwd: null, env: {} })

const run = Effect.fnUntraced(function* (scope: AccountScope, id: SessionId, seconds: number) {
  const wanted = { command: sleep(seconds), timeout: Duration.hours(24), nonce: Option.none() }
  return yield* (yield* Sessions).run(scope, id, wanted)
})

const lifecycleOf = (session: Session) => {
  const { hibernateAfter, sandboxExpiresAt } = session.lifecycle
  return { hibernateAfter: hibernateAfter?.epochMilliseconds, sandboxExpiresAt: sandboxExpiresAt?.epochMilliseconds }
}

const minutes = (count: number) => count * 60_000

/** A public repository with one file. */
const repository = Effect.gen(function* () {
  const writer = yield* author
  const commit = yield* writer.commit({ "README.md": "hello" })
  const repo = new Repo({ owner: RepoOwner.make("somebody"), name: RepoName.make("work") })
  yield* (yield* MemoryRepos).publish(repo, yield* writer.bundle({ [firstBranch]: commit }))
  return "https://public.memory.test/somebody/work"
})

const readme = SandboxPath.make(`${workspace}/README.md`)

describe("Opening a session", () => {
  it.effect("fifty times at once creates one sandbox with one call, and every caller gets it", () =>
    Effect.gen(function* () {
      const { id, scope } = yield* session
      ;(yield* ProviderFaults).plan("create", Trouble.Slow({ before: 2000, after: 1000 }))
      const all = yield* Effect.forkChild(
        Effect.all(
          Array.from({ length: 50 }, () => open(scope, id)),
          { concurrency: "unbounded" }
        )
      )
      for (let i = 0; i < 20; i++) yield* TestClock.adjust("250 millis")
      const ups = yield* Fiber.join(all)
      assert.strictEqual(new Set(ups.map(({ sandbox }) => `${sandbox.name} ${sandbox.incarnation}`)).size, 1)
      assert.strictEqual(yield* countOf("create"), 1)
      assert.deepStrictEqual((yield* MemorySandboxes).names(), [ups[0]!.sandbox.name])
      assert.deepStrictEqual(yield* eventsOf(scope), ["created", "provisioning", "active"])
    }).pipe(Effect.provide(world))
  )

  it.effect("is refused at the limit of awake sessions without a write, unless the session is awake", () =>
    Effect.gen(function* () {
      const sessions = yield* Sessions
      const { id, scope } = yield* opened
      const { id: other } = yield* sessions.create(scope, asked)
      const { id: asleep } = yield* sessions.create(scope, asked)
      const refused = new SandboxQuotaReached({ account: scope.account, limit: 2 })
      yield* open(scope, asleep)
      assert.deepStrictEqual(yield* Effect.flip(open(scope, other)), refused)
      assert.strictEqual(yield* stateOf(scope, other), null)
      yield* open(scope, id)
      yield* (yield* SandboxProvider).stop((yield* known(scope, id)).lifecycle.sandbox!)
      yield* open(scope, id)
      yield* sessions.hibernate(scope, asleep)
      yield* open(scope, other)
      const before = yield* known(scope, asleep)
      assert.deepStrictEqual(yield* Effect.flip(open(scope, asleep)), refused)
      assert.deepStrictEqual(yield* known(scope, asleep), before)
      yield* sessions.hibernate(scope, id)
      yield* open(scope, asleep)
      const { id: somebodys, scope: somebody } = yield* session
      yield* open(somebody, somebodys)
    }).pipe(Effect.provide(narrow(2)))
  )

  it.effect("as ephemeral counts towards the limit like any other", () =>
    Effect.gen(function* () {
      const sessions = yield* Sessions
      const url = yield* repository
      const { id, scope } = yield* session
      yield* sessions.openOnce(scope, url, Option.some("first"))
      yield* sessions.openOnce(scope, url, Option.some("first"))
      const refused = new SandboxQuotaReached({ account: scope.account, limit: 1 })
      assert.deepStrictEqual(yield* Effect.flip(sessions.openOnce(scope, url, Option.none())), refused)
      assert.deepStrictEqual(yield* Effect.flip(open(scope, id)), refused)
    }).pipe(Effect.provide(narrow(1)))
  )

  it.effect("concurrently is not refused at the limit because one of the callers was faster", () =>
    Effect.gen(function* () {
      const { id, scope } = yield* session
      const real = yield* SessionStore
      // The count is delayed until the first open has begun.
      const slow = SessionStore.of({
        ...real,
        countAwake: (scope) => Effect.delay(real.countAwake(scope), "1 second")
      })
      const late = yield* Layer.build(Layer.fresh(useCases(defaultTimes, 1))).pipe(
        Effect.provideService(SessionStore, slow)
      )
      const waits = yield* Effect.forkChild(Effect.provide(open(scope, id), late))
      yield* aMoment
      const first = yield* open(scope, id)
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual((yield* Fiber.join(waits)).sandbox.incarnation, first.sandbox.incarnation)
    }).pipe(Effect.scoped, Effect.provide(narrow(1)))
  )

  it.effect("checks its repository out on the default branch, and refuses another repository", () =>
    Effect.gen(function* () {
      const url = yield* repository
      const { id, scope } = yield* session
      const sessions = yield* Sessions
      const { sandbox, session: up } = yield* sessions.open(scope, id, `${url}.git`)
      assert.strictEqual(yield* read(sandbox.name, readme), "hello")
      assert.strictEqual(up.lifecycle.branch, "main")
      assert.strictEqual((yield* sessions.open(scope, id, url)).sandbox.incarnation, sandbox.incarnation)
      const other = yield* Effect.flip(sessions.open(scope, id, `${url}er`))
      assert.strictEqual(other._tag, "RepoDiffers")
      const foreign = yield* Effect.flip(sessions.open(scope, id, "https://elsewhere.test/somebody/work"))
      assert.strictEqual(foreign._tag, "RepoRefused")
    }).pipe(Effect.provide(world))
  )

  it.effect("configures the name and email of its owner for git, and the service's if there are none", () =>
    Effect.gen(function* () {
      const url = yield* repository
      const sessions = yield* Sessions
      const identities = yield* IdentityStore
      const said = Effect.fnUntraced(function* (name: string | null, email: string | null) {
        const { id } = yield* given.account()
        const account = AccountId.make(`${id.slice(0, -4)}0000`)
        yield* identities.addAccount(
          new Account({ id: account, name, email, platformAdmin: false, createdAt: yield* DateTime.now })
        )
        const { sandbox, session } = yield* sessions.openOnce(AccountScope.ofOwner({ account }), url, Option.none())
        const config = yield* read(sandbox.name, SandboxPath.make("workspace/.git/config"))
        return { account: session.account, user: /name = (.*)\n\temail = (.*)\n/.exec(config ?? "")?.slice(1) }
      })
      assert.deepStrictEqual((yield* said("Ada", "ada@example.com")).user, ["Ada", "ada@example.com"])
      assert.deepStrictEqual((yield* said(" A\0d\na <x> ", "a\nb@c")).user, ["A d a x", "a b@c"])
      for (const nothing of [null, "", " \n", "<>", '.,"']) {
        const { account, user } = yield* said(nothing, nothing)
        assert.deepStrictEqual(user, ["Castellan", `${account}@noreply.invalid`])
      }
    }).pipe(Effect.provide(world))
  )

  it.effect("boots from its repository's image if there is one, and without it if the provider lost it", () =>
    Effect.gen(function* () {
      const url = yield* repository
      const scope = yield* given.scope
      const sessions = yield* Sessions
      const images = yield* BaseImages
      const key = ImageKey.make(`${scope.account}/anyone/somebody/work:workspace`)
      const opened = Effect.gen(function* () {
        const { id } = yield* sessions.create(scope, { ...asked, repo: url })
        const { sandbox } = yield* sessions.open(scope, id, null)
        assert.strictEqual(yield* read(sandbox.name, readme), "hello")
        yield* pass("2 minutes", "10 seconds")
        return Option.getOrThrow(yield* images.find(key))
      })
      const image = yield* opened
      assert.isNotNull(image.current)
      const countBuilds = countOf("snapshot")
      assert.strictEqual(yield* countBuilds, 1)
      assert.strictEqual((yield* opened).current, image.current)
      assert.strictEqual(yield* countBuilds, 1)
      yield* (yield* SandboxProvider).removeSnapshot(image.current!)
      const next = yield* opened
      assert.notStrictEqual(next.current, image.current)
      assert.deepStrictEqual((yield* MemorySandboxes).snapshots(), [next.current!])
      assert.strictEqual(yield* countBuilds, 2)
    }).pipe(Effect.provide(world))
  )

  it.effect("that runs takes one read of the row, one of the provider, and one write", () =>
    Effect.gen(function* () {
      const { id, scope } = yield* opened
      const asked: Array<string> = []
      const real = yield* SessionStore
      const store = Object.fromEntries(
        Object.entries(real).map(([key, member]) => [
          key,
          (...args: ReadonlyArray<never>) => {
            asked.push(key)
            return (member as (...args: ReadonlyArray<never>) => unknown)(...args)
          }
        ])
      ) as SessionStore["Service"]
      const again = Layer.fresh(useCases()).pipe(Layer.provide(Layer.succeed(SessionStore, store)))
      const provider = yield* callsDuring(Effect.provide(open(scope, id), again))
      assert.deepStrictEqual([asked, provider], [["get", "compareAndSet"], ["find"]])
    }).pipe(Effect.provide(world))
  )

  it.effect("during hibernation waits for its end, and resumes the sandbox with its files", () =>
    Effect.gen(function* () {
      const { id, name, sandbox, scope } = yield* opened
      yield* write(name, "mine")
      ;(yield* ProviderFaults).plan("stop", Trouble.Slow({ before: 3000, after: 2000 }))
      const asleep = yield* Effect.forkChild((yield* Sessions).hibernate(scope, id))
      yield* TestClock.adjust("1 second")
      const reopened = yield* Effect.forkChild(open(scope, id))
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual(yield* stateOf(scope, id), "hibernating")
      yield* TestClock.adjust("2 seconds")
      assert.isTrue((yield* Fiber.join(asleep)).stopped)
      const up = yield* Fiber.join(reopened)
      assert.notStrictEqual(up.sandbox.incarnation, sandbox.incarnation)
      assert.deepStrictEqual([up.sandbox.name, yield* read(name)], [name, "mine"])
      const slept = ["hibernating", "hibernated", "restoring", "active"]
      assert.deepStrictEqual(yield* eventsOf(scope), ["created", "provisioning", "active", ...slept])
    }).pipe(Effect.provide(world))
  )

  it.effect("whose sandbox is missing at the provider creates a new one, and emits a loss event", () =>
    Effect.gen(function* () {
      const url = yield* repository
      for (const asleep of [false, true]) {
        const { id, scope } = yield* session
        const sessions = yield* Sessions
        const { sandbox } = yield* sessions.open(scope, id, url)
        yield* write(sandbox.name, "mine")
        if (asleep) yield* sessions.hibernate(scope, id)
        yield* (yield* SandboxProvider).remove(sandbox.name)
        const { sandbox: next } = yield* open(scope, id)
        assert.strictEqual(next.name, sandbox.name)
        assert.notStrictEqual(next.incarnation, sandbox.incarnation)
        assert.deepStrictEqual([yield* read(next.name), yield* read(next.name, readme)], [null, "hello"])
        assert.include(yield* eventsOf(scope), "lost")
        assert.strictEqual((yield* eventsOf(scope)).at(-1), "active")
      }
    }).pipe(Effect.provide(world))
  )

  it.effect("whose files are lost although the provider lists it creates a new one, and emits one loss event", () =>
    Effect.gen(function* () {
      const url = yield* repository
      for (const asleep of [false, true]) {
        const { id, scope } = yield* session
        const sessions = yield* Sessions
        const { sandbox } = yield* sessions.open(scope, id, url)
        yield* write(sandbox.name, "mine")
        if (asleep) yield* sessions.hibernate(scope, id)
        yield* (yield* MemorySandboxes).lose(sandbox.name)
        assert.strictEqual(yield* statusOf(sandbox.name), "stopped")
        const { sandbox: next } = yield* open(scope, id)
        assert.strictEqual(next.name, sandbox.name)
        assert.deepStrictEqual([yield* read(next.name), yield* read(next.name, readme)], [null, "hello"])
        assert.strictEqual((yield* eventsOf(scope)).filter((type) => type === "lost").length, 1)
      }
    }).pipe(Effect.provide(world))
  )

  it.effect("that its provider stopped resumes it with its files, and the reconciler records why it stopped", () =>
    Effect.gen(function* () {
      const { id, name, scope } = yield* opened
      yield* write(name, "mine")
      yield* TestClock.adjust("40 minutes")
      assert.strictEqual(yield* statusOf(name), "stopped")
      yield* pass("1 second")
      assert.strictEqual(yield* stateOf(scope, id), "hibernated")
      const told = (yield* (yield* EventStore).read(scope, null, 100)).at(-1)!.event
      assert.deepStrictEqual([told.type, told.code, told.reason], ["session.hibernated", "stopped", "Its time was up"])
      yield* open(scope, id)
      assert.strictEqual(yield* read(name), "mine")
      yield* TestClock.adjust("40 minutes")
      yield* open(scope, id)
      assert.deepStrictEqual([yield* read(name), yield* statusOf(name)], ["mine", "running"])
      assert.notInclude(yield* eventsOf(scope), "lost")
    }).pipe(Effect.provide(world))
  )

  it.effect("whose sandbox has little time left extends it, so that it lasts until it is idle", () =>
    Effect.gen(function* () {
      const { id, name, scope } = yield* opened
      yield* TestClock.adjust("27 minutes")
      const { sandbox, session } = yield* open(scope, id)
      assert.isAtLeast(sandbox.expiresAt.epochMilliseconds, minutes(27 + 5))
      assert.deepStrictEqual(session.lifecycle.sandboxExpiresAt, sandbox.expiresAt)
      yield* pass("4 minutes", "10 seconds")
      assert.strictEqual(yield* statusOf(name), "running")
    }).pipe(Effect.provide(world))
  )

  it.effect("tries again after a failure; callers that waited for the failed attempt get its failure", () =>
    Effect.gen(function* () {
      const { id, scope } = yield* session
      ;(yield* ProviderFaults).plan("create", Trouble.Refused({ after: 2000 }))
      const waiting = yield* Effect.forkChild(
        Effect.all(
          Array.from({ length: 5 }, () => Effect.flip(open(scope, id))),
          { concurrency: "unbounded" }
        )
      )
      for (let i = 0; i < 20; i++) yield* TestClock.adjust("250 millis")
      const failures = yield* Fiber.join(waiting)
      const sentence = "The sandbox provider refused the server's request"
      for (const failure of failures) {
        assert.instanceOf(failure, SessionNotProvisioned)
        assert.deepStrictEqual(failure.reason, permanent("provider_refused", sentence))
      }
      assert.strictEqual((yield* known(scope, id)).lifecycle.errorCode, "provider_refused")
      assert.strictEqual(yield* stateOf(scope, id), "failed")
      assert.deepStrictEqual(yield* eventsOf(scope), ["created", "provisioning", "failed"])
      yield* open(scope, id)
      assert.deepStrictEqual((yield* eventsOf(scope)).slice(3), ["restoring", "active"])
    }).pipe(Effect.provide(world))
  )

  it.effect("that fails after its sandbox was created leaves nothing running", () =>
    Effect.gen(function* () {
      const { id, scope } = yield* session
      const failure = yield* Effect.flip((yield* Sessions).open(scope, id, "https://public.memory.test/no/where"))
      const sentence = "The repository does not exist, or may not be read"
      assert.deepInclude(failure, {
        _tag: "SessionRepoUnusable",
        reason: { code: "repository_not_found", sentence, retryAfterMs: null }
      })
      const { lifecycle } = yield* known(scope, id)
      assert.deepStrictEqual(
        [lifecycle.state, lifecycle.error, yield* statusOf(lifecycle.sandbox!)],
        ["failed", sentence, "stopped"]
      )
    }).pipe(Effect.provide(world))
  )

  it.effect("that fails because a response was lost stops the sandbox within minutes", () =>
    Effect.gen(function* () {
      const { id, scope } = yield* session
      ;(yield* ProviderFaults).plan("create", Trouble.LostAnswer())
      assert.strictEqual((yield* Effect.flip(open(scope, id)))._tag, "SessionNotProvisioned")
      const name = (yield* known(scope, id)).lifecycle.sandbox!
      assert.strictEqual(yield* statusOf(name), "running")
      yield* pass("3 minutes", "10 seconds")
      assert.deepStrictEqual([yield* stateOf(scope, id), yield* statusOf(name)], ["failed", "stopped"])
      const { sandbox } = yield* open(scope, id)
      assert.strictEqual(sandbox.name, name)
    }).pipe(Effect.provide(world))
  )

  it.effect("completes although its caller disconnects in the middle", () =>
    Effect.gen(function* () {
      const { id, scope } = yield* session
      ;(yield* ProviderFaults).plan("create", Trouble.Slow({ before: 2000, after: 2000 }))
      const client = yield* Effect.forkChild(open(scope, id))
      yield* TestClock.adjust("1 second")
      yield* Effect.forkChild(Fiber.interrupt(client))
      yield* pass("5 seconds")
      assert.strictEqual(yield* stateOf(scope, id), "active")
      assert.strictEqual((yield* open(scope, id)).sandbox.status, "running")
      assert.strictEqual(yield* countOf("create"), 1)
    }).pipe(Effect.provide(world))
  )

  it.effect("that takes long to resume does not delay other sessions", () =>
    Effect.gen(function* () {
      const idle = yield* session
      const slow = yield* session
      yield* open(idle.scope, idle.id)
      const real = yield* SandboxProvider
      const stuck = Layer.succeed(SandboxProvider, { ...real, find: () => Effect.die(new Error("killed")) })
      yield* Effect.exit(Effect.provide(open(slow.scope, slow.id), Layer.fresh(useCases()).pipe(Layer.provide(stuck))))
      ;(yield* ProviderFaults).plan("create", Trouble.Slow({ before: minutes(20), after: 0 }))
      yield* pass("10 minutes", "10 seconds")
      assert.strictEqual(yield* stateOf(slow.scope, slow.id), "provisioning")
      assert.strictEqual(yield* stateOf(idle.scope, idle.id), "hibernated")
      yield* pass("15 minutes", "10 seconds")
      assert.strictEqual(yield* stateOf(slow.scope, slow.id), "active")
      assert.strictEqual(yield* countOf("create"), 2)
    }).pipe(Effect.provide(world))
  )

  it.effect("is extended by the time that the provider grants, which the response reports", () =>
    Effect.gen(function* () {
      const { id, scope } = yield* session
      yield* open(scope, id)
      const real = yield* SandboxProvider
      const sparing = Layer.succeed(SandboxProvider, {
        ...real,
        extend: (name) => real.extend(name, Duration.seconds(7))
      })
      const extend = Effect.flatMap(Sessions, (sessions) => sessions.extend(scope, id, Duration.hours(1)))
      const less = yield* Effect.provide(extend, Layer.fresh(useCases()).pipe(Layer.provide(sparing)))
      assert.strictEqual(Duration.toMillis(less.by), 7000)
      assert.strictEqual(Duration.toMillis((yield* extend).by), 3_600_000)
    }).pipe(Effect.provide(world))
  )

  it.effect("that was interrupted is continued by the reconciler or by the next open", () =>
    Effect.gen(function* () {
      for (const byReconciler of [true, false]) {
        const { id, scope } = yield* session
        const real = yield* SandboxProvider
        const stuck = Layer.succeed(SandboxProvider, { ...real, find: () => Effect.die(new Error("killed")) })
        yield* Effect.exit(Effect.provide(open(scope, id), Layer.fresh(useCases()).pipe(Layer.provide(stuck))))
        assert.strictEqual(yield* stateOf(scope, id), "provisioning")
        if (byReconciler) {
          yield* pass("70 seconds")
          assert.strictEqual(yield* stateOf(scope, id), "active")
        } else {
          yield* TestClock.adjust("61 seconds")
          assert.strictEqual((yield* open(scope, id)).sandbox.status, "running")
        }
      }
    }).pipe(Effect.provide(world))
  )

  it.effect("is forbidden for another account's session, and not found for an unknown one", () =>
    Effect.gen(function* () {
      const { id, scope } = yield* opened
      const other = yield* given.scope
      const failure = yield* Effect.flip(open(other, id))
      assert.deepStrictEqual(
        [failure._tag, "owner" in failure ? failure.owner : null],
        ["SessionForbidden", scope.account]
      )
      const nobodys = given.session(scope).id
      assert.strictEqual((yield* Effect.flip(open(scope, nobodys)))._tag, "SessionNotFound")
    }).pipe(Effect.provide(world))
  )
})

describe("An archived session", () => {
  it.effect("can't be opened, and opens with its files after it was restored", () =>
    Effect.gen(function* () {
      const { id, name, scope } = yield* opened
      const sessions = yield* Sessions
      yield* write(name, "mine")
      const put = yield* sessions.change(scope, id, { status: "archived" })
      assert.deepStrictEqual(
        [put.status, put.lifecycle.state, yield* statusOf(name)],
        ["archived", "archived", "stopped"]
      )
      assert.strictEqual((yield* Effect.flip(open(scope, id)))._tag, "SessionArchived")
      const out = yield* sessions.change(scope, id, { status: "running", title: "again" })
      assert.deepStrictEqual([out.status, out.title, yield* statusOf(name)], ["running", "again", "stopped"])
      yield* open(scope, id)
      assert.strictEqual(yield* read(name), "mine")
      const since = ["hibernating", "archived", "hibernated", "restoring", "active"]
      assert.deepStrictEqual((yield* eventsOf(scope)).slice(3), since)
    }).pipe(Effect.provide(world))
  )

  it.effect("leaves nothing running if it was being opened, whose callers learn that it was archived", () =>
    Effect.gen(function* () {
      for (const trouble of [Trouble.Slow({ before: 3000, after: 3000 }), Trouble.Slow({ before: 0, after: 6000 })]) {
        const { id, scope } = yield* session
        ;(yield* ProviderFaults).plan("create", trouble)
        const opening = yield* Effect.forkChild(Effect.flip(open(scope, id)))
        yield* TestClock.adjust("1 second")
        yield* (yield* Sessions).change(scope, id, { status: "archived" })
        assert.strictEqual(yield* stateOf(scope, id), "archived")
        yield* TestClock.adjust("10 seconds")
        assert.strictEqual((yield* Fiber.join(opening))._tag, "SessionArchived")
        assert.strictEqual(yield* statusOf((yield* known(scope, id)).lifecycle.sandbox!), "stopped")
      }
    }).pipe(Effect.provide(world))
  )

  it.effect("is stopped by the reconciler if its provider could not be reached", () =>
    Effect.gen(function* () {
      const { id, name, scope } = yield* opened
      const faults = yield* ProviderFaults
      faults.cut(true)
      const put = yield* (yield* Sessions).change(scope, id, { status: "archived" })
      assert.deepStrictEqual([put.status, put.lifecycle.state], ["archived", "hibernating"])
      faults.cut(false)
      assert.strictEqual((yield* Effect.flip(open(scope, id)))._tag, "SessionArchived")
      yield* pass("2 minutes", "5 seconds")
      assert.deepStrictEqual([yield* stateOf(scope, id), yield* statusOf(name)], ["archived", "stopped"])
    }).pipe(Effect.provide(world))
  )

  it.effect("that is restored while it is being stopped hibernates and can be opened", () =>
    Effect.gen(function* () {
      const { id, name, scope } = yield* opened
      const sessions = yield* Sessions
      yield* write(name, "mine")
      ;(yield* ProviderFaults).plan("stop", Trouble.Slow({ before: 3000, after: 3000 }))
      yield* Effect.forkChild(sessions.change(scope, id, { status: "archived" }))
      yield* TestClock.adjust("1 second")
      yield* sessions.change(scope, id, { status: "completed" })
      const opening = yield* Effect.forkChild(open(scope, id))
      yield* pass("70 seconds")
      const { session } = yield* Fiber.join(opening)
      assert.deepStrictEqual([session.status, session.lifecycle.state], ["completed", "active"])
      assert.strictEqual(yield* read(name), "mine")
    }).pipe(Effect.provide(world))
  )

  it.effect("that was never opened can be restored, and opened for the first time", () =>
    Effect.gen(function* () {
      const { id, scope } = yield* session
      const sessions = yield* Sessions
      yield* sessions.change(scope, id, { status: "archived" })
      assert.strictEqual(yield* stateOf(scope, id), "archived")
      yield* sessions.change(scope, id, { status: "running" })
      assert.strictEqual(yield* stateOf(scope, id), null)
      assert.deepStrictEqual(yield* callsDuring(pass("3 minutes", "30 seconds")), [])
      yield* open(scope, id)
      assert.strictEqual(yield* stateOf(scope, id), "active")
    }).pipe(Effect.provide(world))
  )
})

describe("Reading a session", () => {
  it.effect("does not call its provider, and a reconnect only reads the sandbox's state", () =>
    Effect.gen(function* () {
      const { id, name, scope } = yield* opened
      const sessions = yield* Sessions
      yield* sessions.hibernate(scope, id)
      assert.deepStrictEqual(yield* callsDuring(sessions.get(scope, id)), [])
      assert.deepStrictEqual(yield* callsDuring(sessions.list(scope, { limit: 10, cursor: null })), [])
      assert.deepStrictEqual(yield* callsDuring(sessions.reconnect(scope, id)), ["find"])
      assert.deepStrictEqual([yield* stateOf(scope, id), yield* statusOf(name)], ["hibernated", "stopped"])
      const { id: never } = yield* sessions.create(scope, asked)
      assert.deepStrictEqual(yield* callsDuring(sessions.reconnect(scope, never)), [])
      assert.strictEqual((yield* sessions.reconnect(scope, never)).status, "no_sandbox")
    }).pipe(Effect.provide(world))
  )

  it.effect("that runs reports that it is connected, and changes nothing", () =>
    Effect.gen(function* () {
      const { id, scope } = yield* opened
      const before = yield* known(scope, id)
      assert.strictEqual((yield* (yield* Sessions).reconnect(scope, id)).status, "connected")
      assert.deepStrictEqual(yield* known(scope, id), before)
    }).pipe(Effect.provide(world))
  )

  it.effect("records a missing sandbox, and records nothing if the provider can't be reached", () =>
    Effect.gen(function* () {
      const { id, name, scope } = yield* opened
      const sessions = yield* Sessions
      const faults = yield* ProviderFaults
      const before = yield* known(scope, id)
      faults.cut(true)
      assert.strictEqual((yield* sessions.reconnect(scope, id)).status, "connected")
      assert.deepStrictEqual(yield* known(scope, id), before)
      faults.cut(false)
      yield* (yield* SandboxProvider).remove(name)
      const gone = yield* sessions.reconnect(scope, id)
      assert.deepStrictEqual([gone.status, gone.session.lifecycle.state], ["expired", "hibernated"])
      assert.strictEqual((yield* eventsOf(scope)).at(-1), "lost")
      assert.strictEqual((yield* sessions.reconnect(scope, id)).status, "expired")
      assert.strictEqual((yield* eventsOf(scope)).filter((type) => type === "lost").length, 1)
    }).pipe(Effect.provide(world))
  )

  it.effect("stops waiting after fifteen seconds for a provider that does not respond", () =>
    Effect.gen(function* () {
      const { id, scope } = yield* opened
      ;(yield* ProviderFaults).plan("find", Trouble.Slow({ before: minutes(5), after: 0 }))
      const looking = yield* Effect.forkChild((yield* Sessions).reconnect(scope, id))
      yield* TestClock.adjust("14 seconds")
      assert.isUndefined(looking.pollUnsafe())
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Fiber.join(looking)).status, "connected")
    }).pipe(Effect.provide(world))
  )

  it.effect("while it is being restored does not interfere, whatever it observes", () =>
    Effect.gen(function* () {
      const { id, name, scope } = yield* opened
      const sessions = yield* Sessions
      yield* sessions.hibernate(scope, id)
      yield* (yield* SandboxProvider).remove(name)
      ;(yield* ProviderFaults).plan("find", Trouble.Slow({ before: 0, after: 2000 }))
      const opening = yield* Effect.forkChild(open(scope, id))
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* sessions.reconnect(scope, id)).status, "expired")
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual((yield* Fiber.join(opening)).session.lifecycle.state, "active")
    }).pipe(Effect.provide(world))
  )
})

describe("The deadlines of a session", () => {
  it.effect("move with its activity, with its commands, and with each open", () =>
    Effect.gen(function* () {
      const { id, scope } = yield* opened
      const sessions = yield* Sessions
      const deadline = Effect.map(known(scope, id), (session) => lifecycleOf(session).hibernateAfter)
      assert.strictEqual(yield* deadline, minutes(5))
      yield* TestClock.adjust("1 minute")
      yield* sessions.recordActivity(scope, id)
      assert.strictEqual(yield* deadline, minutes(6))
      yield* TestClock.adjust("1 minute")
      yield* open(scope, id)
      assert.strictEqual(yield* deadline, minutes(7))
      yield* TestClock.adjust("1 minute")
      yield* run(scope, id, 1)
      assert.strictEqual(yield* deadline, minutes(8))
      yield* TestClock.adjust("1 minute")
      yield* sessions.extend(scope, id, Duration.minutes(20))
      assert.deepStrictEqual(lifecycleOf(yield* known(scope, id)), {
        hibernateAfter: minutes(9),
        sandboxExpiresAt: minutes(50)
      })
    }).pipe(Effect.provide(world))
  )

  it.effect("hibernate it exactly five minutes after its last use", () =>
    Effect.gen(function* () {
      const { id, name, scope } = yield* opened
      yield* pass("4 minutes")
      yield* (yield* Sessions).recordActivity(scope, id)
      yield* pass("299 seconds")
      assert.deepStrictEqual([yield* stateOf(scope, id), yield* statusOf(name)], ["active", "running"])
      yield* pass("2 seconds")
      assert.deepStrictEqual([yield* stateOf(scope, id), yield* statusOf(name)], ["hibernated", "stopped"])
    }).pipe(Effect.provide(world))
  )

  it.effect("hibernate it ten seconds before its provider would stop it", () =>
    Effect.gen(function* () {
      const { id, name, scope } = yield* opened
      for (let minute = 0; minute < 29; minute++) {
        yield* pass("1 minute", "10 seconds")
        yield* (yield* Sessions).recordActivity(scope, id)
      }
      yield* pass("49 seconds")
      assert.deepStrictEqual([yield* stateOf(scope, id), yield* statusOf(name)], ["active", "running"])
      yield* pass("1 second")
      assert.deepStrictEqual([yield* stateOf(scope, id), yield* statusOf(name)], ["hibernated", "stopped"])
      const told = (yield* (yield* EventStore).read(scope, null, 100)).at(-2)!.event
      assert.deepStrictEqual([told.code, told.reason], ["lifetime_over", "Its time was nearly up"])
    }).pipe(Effect.provide(world))
  )

  it.effect("wait for a live run, for which the sandbox is extended no more than needed", () =>
    Effect.gen(function* () {
      const { id, name, scope } = yield* opened
      yield* run(scope, id, 2 * 60 * 60)
      yield* pass("119 minutes", "5 seconds")
      assert.deepStrictEqual([yield* stateOf(scope, id), yield* statusOf(name)], ["active", "running"])
      const end = lifecycleOf(yield* known(scope, id)).sandboxExpiresAt!
      assert.isAbove(end, minutes(119))
      assert.isBelow(end, minutes(119 + 31))
      yield* pass("7 minutes", "5 seconds")
      assert.deepStrictEqual([yield* stateOf(scope, id), yield* statusOf(name)], ["hibernated", "stopped"])
    }).pipe(Effect.provide(world))
  )

  it.effect("don't wait for a run that has ended", () =>
    Effect.gen(function* () {
      const { id, scope } = yield* opened
      yield* run(scope, id, 30)
      yield* pass("301 seconds")
      assert.strictEqual(yield* stateOf(scope, id), "hibernated")
    }).pipe(Effect.provide(world))
  )

  it.effect("don't wait forever for a run that never ends", () =>
    Effect.gen(function* () {
      const { id, name, scope } = yield* opened
      // No worker handles this task, so it stays queued.
      yield* (yield* TaskRunner).enqueue(given.run(scope, { sandbox: name, at: yield* nowAt }))
      yield* pass("24 hours", "1 minute")
      assert.deepStrictEqual([yield* stateOf(scope, id), yield* statusOf(name)], ["active", "running"])
      yield* pass("90 minutes", "1 minute")
      assert.deepStrictEqual([yield* stateOf(scope, id), yield* statusOf(name)], ["hibernated", "stopped"])
    }).pipe(Effect.provide(world))
  )

  it.effect("don't stop a command that is queued just before the idle deadline", () =>
    Effect.gen(function* () {
      const { id, name, scope } = yield* opened
      for (let minute = 0; minute < 29; minute++) {
        yield* TestClock.adjust("1 minute")
        yield* (yield* Sessions).recordActivity(scope, id)
      }
      yield* TestClock.adjust("55 seconds")
      yield* run(scope, id, 30)
      yield* pass("20 seconds")
      assert.deepStrictEqual([yield* stateOf(scope, id), yield* statusOf(name)], ["active", "running"])
    }).pipe(Effect.provide(world))
  )

  it.effect("are absent from a session that does not run", () =>
    Effect.gen(function* () {
      const { id, scope } = yield* opened
      const sessions = yield* Sessions
      yield* sessions.hibernate(scope, id)
      for (const failure of [
        yield* Effect.flip(sessions.recordActivity(scope, id)),
        yield* Effect.flip(sessions.extend(scope, id, Duration.minutes(1))),
        yield* Effect.flip(run(scope, id, 1))
      ])
        assert.strictEqual(failure._tag, "SandboxNotRunning")
      assert.strictEqual(yield* stateOf(scope, id), "hibernated")
    }).pipe(Effect.provide(world))
  )
})

const nowAt = Effect.map(
  Effect.clockWith((clock) => clock.currentTimeMillis),
  (millis) => DateTime.makeUnsafe(millis)
)

describe("Hibernating a session", () => {
  it.effect("returns whether there was a sandbox to stop, and is idempotent", () =>
    Effect.gen(function* () {
      const { id, name, scope } = yield* opened
      const sessions = yield* Sessions
      assert.isTrue((yield* sessions.hibernate(scope, id)).stopped)
      assert.strictEqual(yield* statusOf(name), "stopped")
      assert.isFalse((yield* sessions.hibernate(scope, id)).stopped)
      const { id: never } = yield* sessions.create(scope, asked)
      assert.isFalse((yield* sessions.hibernate(scope, never)).stopped)
    }).pipe(Effect.provide(world))
  )

  it.effect("fails if its provider can't be reached, and fails again when it is repeated", () =>
    Effect.gen(function* () {
      const { id, name, scope } = yield* opened
      const sessions = yield* Sessions
      const faults = yield* ProviderFaults
      faults.cut(true)
      assert.strictEqual((yield* Effect.flip(sessions.hibernate(scope, id)))._tag, "SandboxUnavailable")
      const again = yield* Effect.forkChild(Effect.exit(sessions.hibernate(scope, id)))
      for (let second = 0; second < 180; second++) yield* TestClock.adjust("1 second")
      assert.isDefined(again.pollUnsafe())
      assert.isTrue(Exit.isFailure(yield* Fiber.join(again)))
      faults.cut(false)
      yield* pass("2 minutes", "5 seconds")
      assert.deepStrictEqual([yield* stateOf(scope, id), yield* statusOf(name)], ["hibernated", "stopped"])
    }).pipe(Effect.provide(world))
  )

  it.effect("does not stop an incarnation that started after the request", () =>
    Effect.gen(function* () {
      const { id, name, scope } = yield* opened
      ;(yield* ProviderFaults).plan("stop", Trouble.Slow({ before: 100_000, after: 0 }))
      // The caller stops here: its lease expires while its call is still pending.
      const real = yield* SessionStore
      const mute = Layer.succeed(SessionStore, { ...real, setNextCheck: () => Effect.never })
      yield* Effect.forkDetach(
        Effect.flatMap(Sessions, (sessions) => sessions.hibernate(scope, id)).pipe(
          Effect.provide(Layer.fresh(useCases()).pipe(Layer.provide(mute)))
        )
      )
      yield* TestClock.adjust("1 second")
      yield* pass("65 seconds")
      assert.strictEqual(yield* stateOf(scope, id), "hibernated")
      yield* open(scope, id)
      yield* pass("60 seconds")
      assert.deepStrictEqual([yield* stateOf(scope, id), yield* statusOf(name)], ["active", "running"])
    }).pipe(Effect.provide(world))
  )
})

describe("An ephemeral session", () => {
  const nonce = Option.some("abcdefghjkmnpqrstvwx")

  it.effect("has its repository, is not listed, and is removed when it is idle", () =>
    Effect.gen(function* () {
      const url = yield* repository
      const scope = yield* given.scope
      const sessions = yield* Sessions
      const { sandbox, session } = yield* sessions.openOnce(scope, url, Option.none())
      assert.strictEqual(yield* read(sandbox.name, readme), "hello")
      assert.deepStrictEqual((yield* sessions.list(scope, { limit: 10, cursor: null })).rows, [])
      yield* pass("10 minutes", "10 seconds")
      assert.deepStrictEqual((yield* MemorySandboxes).names(), [])
      assert.strictEqual((yield* Effect.flip(sessions.get(scope, session.id)))._tag, "SessionNotFound")
      assert.strictEqual((yield* eventsOf(scope)).at(-1), "removed")
    }).pipe(Effect.provide(world))
  )

  it.effect("is the same when it is requested again after a lost response", () =>
    Effect.gen(function* () {
      const url = yield* repository
      const scope = yield* given.scope
      const sessions = yield* Sessions
      const first = yield* sessions.openOnce(scope, url, nonce)
      const again = yield* sessions.openOnce(scope, url, nonce)
      assert.deepStrictEqual([again.session.id, again.sandbox], [first.session.id, first.sandbox])
    }).pipe(Effect.provide(world))
  )

  it.effect("is also removed if it could not be provisioned, or was never opened", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const sessions = yield* Sessions
      const failing = sessions.openOnce(scope, "https://public.memory.test/no/where", nonce)
      assert.strictEqual((yield* Effect.flip(failing))._tag, "SessionRepoUnusable")
      const store = yield* SessionStore
      const killed = Layer.succeed(SessionStore, { ...store, compareAndSet: () => Effect.die(new Error("killed")) })
      const url = yield* repository
      yield* Effect.flatMap(Sessions, (sessions) => sessions.openOnce(scope, url, Option.none())).pipe(
        Effect.provide(Layer.fresh(useCases()).pipe(Layer.provide(killed))),
        Effect.exit
      )
      yield* pass("10 minutes", "10 seconds")
      assert.deepStrictEqual((yield* MemorySandboxes).names(), [])
      assert.strictEqual((yield* eventsOf(scope)).filter((type) => type === "removed").length, 2)
    }).pipe(Effect.provide(world))
  )

  it.effect("that is being removed is not provisioned by a late request", () =>
    Effect.gen(function* () {
      const url = yield* repository
      const scope = yield* given.scope
      const sessions = yield* Sessions
      yield* sessions.openOnce(scope, url, nonce)
      const faults = yield* ProviderFaults
      faults.plan("remove", Trouble.Slow({ before: 10_000, after: 10_000 }))
      yield* pass("305 seconds")
      assert.strictEqual(yield* countOf("remove"), 1)
      const late = yield* Effect.flip(sessions.openOnce(scope, url, nonce))
      assert.strictEqual(late._tag, "SessionNotProvisioned")
      yield* pass("60 seconds")
      assert.deepStrictEqual((yield* MemorySandboxes).names(), [])
      const { sandbox } = yield* sessions.openOnce(scope, url, nonce)
      yield* pass("60 seconds")
      assert.strictEqual(yield* statusOf(sandbox.name), "running")
    }).pipe(Effect.provide(world))
  )
})

describe("The working tree of a session", () => {
  /** Working directories of commands: none, a relative and an absolute one. */
  const directories = Effect.fnUntraced(function* (
    scope: AccountScope,
    id: SessionId,
    asked: ReadonlyArray<string | null> = [null, "sub", "/"]
  ) {
    const sessions = yield* Sessions
    const runs = yield* TaskRuns
    return yield* Effect.forEach(asked, (cwd) =>
      Effect.gen(function* () {
        const steps = JSON.stringify([Step.PrintDirectory()])
        const command = new Command({ command: stepper, args: [steps], cwd, env: {} })
        const { id: runId } = yield* sessions.run(scope, id, {
          command,
          timeout: Duration.minutes(1),
          nonce: Option.none()
        })
        yield* pass("2 seconds")
        return Schema.decodeUnknownSync(CommandRunOutput)((yield* runs.get(scope, runId)).output).stdout
      })
    )
  })

  const begun = Effect.gen(function* () {
    const url = yield* repository
    const scope = yield* given.scope
    const { id } = yield* (yield* Sessions).create(scope, { ...asked, repo: url })
    const { sandbox } = yield* open(scope, id)
    return { scope, id, name: sandbox.name }
  })

  it.effect("is its workspace, in which its commands run, and not the home directory", () =>
    Effect.gen(function* () {
      const { id, name, scope } = yield* begun
      yield* writeAt(name, "workspace/sub/file", "1")
      yield* writeAt(name, ".codex/auth.json", "secret")
      assert.deepStrictEqual(yield* directories(scope, id), ["/home/user/workspace", "/home/user/workspace/sub", "/"])
      const { files: found } = yield* (yield* SandboxProvider).listFiles(name, SandboxPath.make("."), {
        depth: 1,
        limit: 10
      })
      assert.deepStrictEqual(
        found.map(({ path }) => path),
        [".codex", "workspace"]
      )
    }).pipe(Effect.provide(world))
  )

  it.effect("is the home directory without a repository", () =>
    Effect.gen(function* () {
      const { id, name, scope } = yield* opened
      yield* writeAt(name, "sub/file", "1")
      assert.deepStrictEqual(yield* directories(scope, id), ["/home/user", "/home/user/sub", "/"])
    }).pipe(Effect.provide(world))
  )

  it.effect("stays where an older server has it while its sandbox runs, and moves when it resumes", () =>
    Effect.gen(function* () {
      const { id, scope } = yield* begun
      const name = yield* makeOlder(scope, id)
      yield* writeAt(name, "sub/file", "1")
      yield* writeAt(name, ".codex/auth.json", "secret")
      yield* open(scope, id)
      assert.deepStrictEqual(yield* directories(scope, id), ["/home/user", "/home/user/sub", "/"])
      yield* (yield* Sessions).hibernate(scope, id)
      const { session } = yield* open(scope, id)
      assert.isTrue(session.lifecycle.workspace)
      assert.deepStrictEqual(yield* directories(scope, id), ["/home/user/workspace", "/home/user/workspace/sub", "/"])
      assert.strictEqual(yield* read(name, readme), "hello")
      assert.strictEqual(yield* read(name, SandboxPath.make("workspace/sub/file")), "1")
      assert.strictEqual(yield* read(name, SandboxPath.make(".codex/auth.json")), "secret")
      assert.isNull(yield* read(name, SandboxPath.make("README.md")))
      // What was moved once is not moved again.
      yield* writeAt(name, "beside", "1")
      yield* (yield* Sessions).hibernate(scope, id)
      yield* open(scope, id)
      assert.strictEqual(yield* read(name, SandboxPath.make("beside")), "1")
    }).pipe(Effect.provide(world))
  )

  it.effect("is the workspace after the sandbox of an older server was lost", () =>
    Effect.gen(function* () {
      const { id, scope } = yield* begun
      const name = yield* makeOlder(scope, id)
      yield* (yield* SandboxProvider).remove(name)
      const { session } = yield* open(scope, id)
      assert.isTrue(session.lifecycle.workspace)
      assert.strictEqual(yield* read(name, readme), "hello")
      assert.deepStrictEqual(yield* directories(scope, id, [null]), ["/home/user/workspace"])
    }).pipe(Effect.provide(world))
  )

  it.effect("is moved by the next open if the provider failed in between", () =>
    Effect.gen(function* () {
      const { id, scope } = yield* begun
      const name = yield* makeOlder(scope, id)
      yield* (yield* Sessions).hibernate(scope, id)
      const down = new SandboxUnavailable({ operation: "start", retryable: true, cause: "down" })
      const broken = Layer.effect(
        SandboxProvider,
        Effect.map(SandboxProvider, (real) => ({ ...real, start: () => Effect.fail(down) }))
      )
      const failing = Layer.fresh(useCases()).pipe(Layer.provide(broken))
      assert.strictEqual((yield* Effect.flip(Effect.provide(open(scope, id), failing)))._tag, "SessionNotProvisioned")
      yield* open(scope, id)
      assert.strictEqual(yield* read(name, readme), "hello")
    }).pipe(Effect.provide(world))
  )

  it.effect("is never taken from an image that an older server built", () =>
    Effect.gen(function* () {
      const url = yield* repository
      const scope = yield* given.scope
      const images = yield* BaseImages
      const key = ImageKey.make(`${scope.account}/anyone/somebody/work`)
      const prepare = (builder: SandboxName) => Effect.orDie(writeAt(builder, "README.md", "older"))
      yield* images.build({ key, account: scope.account, prepare, explain: () => "" })
      const { id } = yield* (yield* Sessions).create(scope, { ...asked, repo: url })
      const { sandbox } = yield* open(scope, id)
      assert.isNull(yield* read(sandbox.name, SandboxPath.make("README.md")))
      // This server builds no image for an older server either, which would not find the repository in it.
      const other = `${key}-other`
      const repo = { owner: "somebody", name: "work" }
      const input = { key: other, account: scope.account, repo, right: "anyone", url }
      const run = yield* (yield* TaskRuns).start(scope, { task: "build-org-snapshot", input })
      yield* pass("2 seconds")
      const ended = yield* (yield* TaskRuns).get(scope, run.id)
      assert.deepStrictEqual([ended.status, ended.output], ["COMPLETED", { snapshotId: null }])
      assert.isTrue(Option.isNone(yield* images.find(ImageKey.make(other))))
    }).pipe(Effect.provide(world))
  )
})

describe("Creating a session again after the response was lost", () => {
  it.effect("returns the same session and the same run in it", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const sessions = yield* Sessions
      const wanted = { ...asked, nonce: Option.some("abcdefghjkmnpqrstvwx") }
      const first = yield* sessions.create(scope, wanted)
      assert.deepStrictEqual(yield* sessions.create(scope, { ...wanted, title: "another" }), first)
      yield* open(scope, first.id)
      const work = { command: sleep(1), timeout: Duration.minutes(1), nonce: Option.some("abcdefghjkmnpqrstvwz") }
      const run = yield* sessions.run(scope, first.id, work)
      assert.strictEqual((yield* sessions.run(scope, first.id, work)).id, run.id)
    }).pipe(Effect.provide(world))
  )

  it.effect("opens it with the sandbox that was created then", () =>
    Effect.gen(function* () {
      const { id, scope } = yield* session
      ;(yield* ProviderFaults).plan("create", Trouble.LostAnswer())
      yield* Effect.exit(open(scope, id))
      yield* open(scope, id)
      assert.strictEqual((yield* MemorySandboxes).names().length, 1)
    }).pipe(Effect.provide(world))
  )
})
