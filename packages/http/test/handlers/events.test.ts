import { Repo, RepoName } from "@castellan/domain/repo/Repo.ts"
import { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Logger, Scope, Stream } from "effect"
import { Sse } from "effect/encoding"
import { TestClock } from "effect/testing"
import { accessDenied } from "../tenancy/expectations.ts"
import { WebApi } from "../WebApi.ts"

const api = Layer.fresh(WebApi.layer).pipe(Layer.provideMerge(Logger.layer([])))

interface Told {
  readonly type: string
  readonly sandboxId: string | null
  readonly sessionId: string | null
  readonly code: string | null
  readonly reason: string | null
  readonly at: string
}

/** A reader of the events: the events that it received, and its connection. */
const reader = Effect.fnUntraced(function* (key: string, query = "", lastEventId?: string) {
  const { fetch } = yield* WebApi
  const headers = { "x-api-key": key, ...(lastEventId === undefined ? {} : { "last-event-id": lastEventId }) }
  const response = yield* fetch(new Request(`http://castellan.test/api/events${query}`, { headers }))
  assert.strictEqual(response.status, 200)
  assert.strictEqual(response.headers.get("content-type"), "text/event-stream")
  const events: Array<Sse.Event> = []
  const reading = yield* Stream.fromReadableStream({ evaluate: () => response.body!, onError: (error) => error }).pipe(
    Stream.decodeText,
    Stream.pipeThroughChannelOrFail(Sse.decode({ dispatchEmptyNamedEvents: true })),
    Stream.runForEach((event) => Effect.sync(() => events.push(event))),
    Effect.forkIn(yield* Scope.Scope)
  )
  const told = () =>
    events.flatMap(({ data, event }): Array<Told> => {
      if (data === "") return []
      const said = JSON.parse(data)
      if (event !== "error") assert.strictEqual(said.type, event)
      return [said]
    })
  const types = () => told().map(({ type }) => type)
  /** Waits until it received so many events. */
  const until = Effect.fnUntraced(function* (count: number) {
    while (told().length < count) {
      yield* TestClock.adjust("1 second")
      yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
    }
    return told()
  })
  /** All events that are stored now. */
  const settled = Effect.gen(function* () {
    for (let i = 0; i < 4; i++) {
      yield* TestClock.adjust("1 second")
      yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
    }
    return told()
  })
  return { events, reading, told, types, until, settled, close: Fiber.interrupt(reading) }
})

/** An account with an open session. */
const holder = Effect.gen(function* () {
  const { ask, join } = yield* WebApi
  const { account, key } = yield* join()
  const host = yield* RepoHost
  const repo = new Repo({ owner: host.supports.owner, name: RepoName.make("site") })
  yield* host.ensure(repo)
  const repoUrl = `${host.supports.url}/${repo.owner}/${repo.name}`
  const created = yield* ask("POST", "/api/sessions", { key, body: { repoUrl } })
  const id: string = created.json.session.id
  const open = ask("POST", "/api/sandbox", { key, body: { repoUrl, sessionId: id } })
  assert.strictEqual((yield* open).status, 200)
  return { account, key, id, open, sleep: ask("DELETE", `/api/sandbox?sessionId=${id}`, { key }) }
})

/** Creates and removes a sandbox of the account, for more events. */
const passingSandbox = Effect.fnUntraced(function* (key: string) {
  const { ask } = yield* WebApi
  const { json } = yield* ask("POST", "/api/sandboxes", { key })
  const { sandboxId } = json.sandboxes[0]
  assert.strictEqual((yield* ask("DELETE", `/api/sandboxes/${sandboxId}`, { key })).status, 200)
  return sandboxId as string
})

describe("The events of an account", () => {
  it.effect("include every change of a sandbox", () =>
    Effect.gen(function* () {
      const { join } = yield* WebApi
      const { key } = yield* join()
      const name = yield* passingSandbox(key)
      const { settled } = yield* reader(key, "?from=start")
      const told = yield* settled
      assert.deepStrictEqual(new Set(told.map(({ sandboxId }) => sandboxId)), new Set([name]))
      assert.deepStrictEqual(new Set(told.map(({ sessionId }) => sessionId)), new Set([null]))
      assert.deepStrictEqual(
        told.map(({ code, type }) => [type, code]),
        [
          ["sandbox.pending", "created"],
          ["sandbox.running", "started"],
          ["sandbox.removed", "user_requested"]
        ]
      )
      for (const { at } of told) assert.match(at, /^\d{4}-\d\d-\d\dT[\d:.]+Z$/)
    }).pipe(Effect.scoped, Effect.provide(api))
  )

  it.effect("include every change of a session, with its code, and the reason if the owner did not request it", () =>
    Effect.gen(function* () {
      const { ask } = yield* WebApi
      const { id, key, open, sleep } = yield* holder
      const { settled } = yield* reader(key, "?from=start")
      yield* sleep
      yield* open
      // The session is idle for six minutes.
      yield* TestClock.adjust("6 minutes")
      yield* settled
      yield* open
      const { json } = yield* ask("GET", `/api/sessions/${id}`, { key })
      yield* (yield* SandboxProvider).remove(SandboxName.make(json.session.sandboxId))
      yield* open
      yield* ask("PATCH", `/api/sessions/${id}`, { key, body: { status: "archived" } })
      yield* ask("PATCH", `/api/sessions/${id}`, { key, body: { status: "running" } })
      const told = yield* settled
      assert.deepStrictEqual(new Set(told.map(({ sessionId }) => sessionId)), new Set([id]))
      assert.deepStrictEqual(new Set(told.map(({ sandboxId }) => sandboxId)), new Set([null, json.session.sandboxId]))
      const lost = "The provider no longer had the sandbox: what was not pushed is lost"
      assert.deepStrictEqual(
        told.map(({ code, reason, type }) => [type.replace("session.", ""), code, reason]),
        [
          ["created", "created", null],
          ["provisioning", "user_requested", null],
          ["active", "started", null],
          ["hibernating", "user_requested", "Its owner hibernated it"],
          ["hibernated", "user_requested", null],
          ["restoring", "user_requested", null],
          ["active", "started", null],
          ["hibernating", "idle_timeout", "Nobody used it for a while"],
          ["hibernated", "idle_timeout", "Nobody used it for a while"],
          ["restoring", "user_requested", null],
          ["active", "started", null],
          ["lost", "provider_lost", lost],
          ["active", "started", null],
          ["hibernating", "user_requested", null],
          ["archived", "user_requested", "Its owner archived it"],
          ["hibernated", "user_requested", null]
        ]
      )
    }).pipe(Effect.scoped, Effect.provide(api))
  )

  it.effect("resume after the last received event without gaps and repetitions", () =>
    Effect.gen(function* () {
      const { join } = yield* WebApi
      const { key } = yield* join()
      for (let i = 0; i < 3; i++) yield* passingSandbox(key)
      const whole = yield* reader(key, "?from=start")
      const all = yield* whole.until(9)
      const ids = whole.events.filter(({ data }) => data !== "").map(({ id }) => id!)
      assert.strictEqual(new Set(ids).size, 9)
      for (const [index, id] of ids.entries()) {
        // `from` is ignored with an id.
        const rest = yield* reader(key, index % 2 === 0 ? "" : "?from=start", id)
        assert.deepStrictEqual(yield* rest.settled, all.slice(index + 1), id)
        yield* rest.close
      }
    }).pipe(Effect.scoped, Effect.provide(api))
  )

  it.effect("begin now by default", () =>
    Effect.gen(function* () {
      const { join } = yield* WebApi
      const { key } = yield* join()
      yield* passingSandbox(key)
      const { settled, told } = yield* reader(key)
      assert.deepStrictEqual(yield* settled, [])
      const name = yield* passingSandbox(key)
      yield* settled
      assert.deepStrictEqual(
        told().map(({ sandboxId, type }) => [sandboxId, type]),
        ["pending", "running", "removed"].map((state) => [name, `sandbox.${state}`])
      )
    }).pipe(Effect.scoped, Effect.provide(api))
  )

  it.effect("begin with an id, so that none is missed if the connection breaks before the first", () =>
    Effect.gen(function* () {
      const { join } = yield* WebApi
      const { key } = yield* join()
      yield* passingSandbox(key)
      const first = yield* reader(key)
      yield* first.settled
      yield* first.close
      const [now, ...more] = first.events
      assert.deepStrictEqual([now?.event, now?.data, more], ["now", "", []])
      const name = yield* passingSandbox(key)
      const second = yield* reader(key, "", now?.id)
      assert.deepStrictEqual(
        (yield* second.settled).map(({ sandboxId }) => sandboxId),
        [name, name, name]
      )
      // It comes once, after all stored events.
      assert.deepStrictEqual(
        second.events.map(({ data, event }) => (data === "" ? event : "told")),
        ["told", "told", "told", "now"]
      )
    }).pipe(Effect.scoped, Effect.provide(api))
  )

  it.effect("begin as without an id if the id is empty", () =>
    Effect.gen(function* () {
      const { join } = yield* WebApi
      const { key } = yield* join()
      yield* passingSandbox(key)
      const fromNow = yield* reader(key, "", "")
      assert.deepStrictEqual(yield* fromNow.settled, [])
      const fromStart = yield* reader(key, "?from=start", "")
      assert.strictEqual((yield* fromStart.settled).length, 3)
      yield* fromNow.close
      yield* fromStart.close
    }).pipe(Effect.scoped, Effect.provide(api))
  )

  it.effect("never reach another account", () =>
    Effect.gen(function* () {
      const { ask, join } = yield* WebApi
      const stranger = yield* join()
      const fromStart = yield* reader(stranger.key, "?from=start")
      const fromNow = yield* reader(stranger.key)
      const { account, key, sleep } = yield* holder
      yield* passingSandbox(key)
      yield* sleep
      const own = yield* reader(key, "?from=start")
      assert.isAbove((yield* own.settled).length, 7)
      assert.deepStrictEqual(yield* fromStart.settled, [])
      assert.deepStrictEqual(yield* fromNow.settled, [])
      // Not even with an id that the other account received.
      const resumed = yield* reader(stranger.key, "", own.events[0]!.id!)
      assert.deepStrictEqual(yield* resumed.settled, [])
      const { json, status } = yield* ask("GET", `/api/events?account_id=${account.id}`, { key: stranger.key })
      assert.deepStrictEqual([status, json], [accessDenied.status, accessDenied.body])
    }).pipe(Effect.scoped, Effect.provide(api))
  )

  it.effect("reach a member of the organization until it is removed", () =>
    Effect.gen(function* () {
      const { ask, join } = yield* WebApi
      const [owner, member] = [yield* join(), yield* join()]
      const made = yield* ask("POST", "/api/organizations", { key: owner.key, body: { name: "Analytical Engines" } })
      const members = `/api/organizations/${made.json.organization.id}/members`
      yield* ask("POST", members, { key: owner.key, body: { accountId: member.account.id } })
      yield* ask("POST", `${members}/accept`, { key: member.key })
      const { events, reading, settled, told } = yield* reader(member.key, `?account_id=${owner.account.id}`)
      yield* passingSandbox(owner.key)
      assert.strictEqual((yield* settled).length, 3)
      yield* ask("DELETE", `${members}/${member.account.id}`, { key: owner.key })
      yield* Fiber.join(reading)
      assert.deepStrictEqual(
        [events.at(-1)?.event, JSON.parse(events.at(-1)!.data)],
        ["error", { error: "Access denied to specified account_id", code: "access_denied" }]
      )
      const before = told().length
      yield* passingSandbox(owner.key)
      assert.strictEqual((yield* settled).length, before)
    }).pipe(Effect.scoped, Effect.provide(api))
  )

  it.effect("keep a silent connection alive with comments", () =>
    Effect.gen(function* () {
      const { fetch, join } = yield* WebApi
      const { key } = yield* join()
      const request = new Request("http://castellan.test/api/events", { headers: { "x-api-key": key } })
      const { body } = yield* fetch(request)
      const read = body!.pipeThrough(new TextDecoderStream()).getReader()
      let text = ""
      while (!text.includes("still here")) {
        const next = yield* Effect.forkChild(Effect.promise(() => read.read()))
        yield* TestClock.adjust("16 seconds")
        text += (yield* Fiber.join(next)).value ?? ""
      }
      assert.match(text, /^: .+\n\n/)
      yield* Effect.promise(() => read.cancel())
    }).pipe(Effect.provide(api))
  )
})
