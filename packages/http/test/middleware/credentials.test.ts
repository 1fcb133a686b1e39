/** Streams, waits and transfers whose credential is revoked or expires. */
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { ApiKeys } from "@castellan/domain/identity/ApiKeys.ts"
import { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import * as Faults from "@castellan/testkit/Faults.ts"
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Effect, Fiber, Layer, Logger, Option, Redacted } from "effect"
import { TestClock } from "effect/testing"
import { WebApi } from "../WebApi.ts"

const api = Layer.fresh(
  WebApi.over(Faults.around(IdentityStore, "IdentityStore").pipe(Layer.provideMerge(Faults.Faults.layer)))
).pipe(Layer.provideMerge(Logger.layer([])))

const turn = Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))

/** Runs everything that is due, without advancing the clock. */
const settle = Effect.gen(function* () {
  for (let n = 0; n < 20; n++) {
    yield* turn
    yield* TestClock.adjust(0)
  }
})

const json = { "content-type": "application/json" }
const bytes = { "content-type": "application/octet-stream" }

/** Requests that stay open, by kind. */
const kinds = {
  events: () => ({ path: "/api/events" }),
  log: ({ run }) => ({ path: `/api/tasks/runs/${run}/logs` }),
  wait: ({ sandbox }) => ({
    method: "POST",
    path: `${sandbox}/commands`,
    headers: json,
    body: JSON.stringify({ command: "sleep", args: ["3600"], wait: true, timeoutMs: 3_600_000 })
  }),
  upload: ({ sandbox }) => ({
    method: "PUT",
    path: `${sandbox}/file?path=a`,
    headers: bytes,
    body: new ReadableStream<Uint8Array>({ pull: () => new Promise(() => undefined) })
  })
} satisfies Record<
  string,
  (of: { readonly sandbox: string; readonly run: string }) => {
    path: string
    method?: string
    headers?: Record<string, string>
    body?: string | ReadableStream
  }
>

type Kind = keyof typeof kinds

const every = Object.keys(kinds) as ReadonlyArray<Kind>

/** An account with a second key, and a sandbox that runs a command. */
const holder = Effect.gen(function* () {
  const { ask, join } = yield* WebApi
  const { account, key } = yield* join()
  const made = yield* ask("POST", "/api/sandboxes", { key, body: { command: "sleep", args: ["3600"] } })
  const { runId: run, sandboxId } = made.json.sandboxes[0]
  const issue = Effect.fnUntraced(function* (expiresAt?: string) {
    const { json } = yield* ask("POST", "/api/keys", { key, body: { name: "second", expiresAt } })
    return json as { readonly id: string; readonly key: string }
  })
  return { account, key, issue, of: { run, sandbox: `/api/sandboxes/${sandboxId}` } }
})

type Of = Effect.Success<typeof holder>["of"]

/** Opens a request of the kind, and returns how it ended. */
const opened = Effect.fnUntraced(function* (kind: Kind, of: Of, headers: Record<string, string>) {
  const { fetch } = yield* WebApi
  const { path, ...init }: { path: string; headers?: Record<string, string> } = kinds[kind](of)
  const request = new Request(`http://castellan.test${path}`, {
    ...init,
    headers: { ...init.headers, ...headers },
    duplex: "half"
  } as RequestInit)
  const fiber = yield* Effect.forkChild(
    Effect.flatMap(fetch(request), (response) =>
      Effect.map(
        Effect.promise(() => response.text()),
        (text) => ({ status: response.status, text })
      )
    )
  )
  return { kind, fiber }
})

const openAll = (of: Of, headers: Record<string, string>) => Effect.forEach(every, (kind) => opened(kind, of, headers))

type Opened = Effect.Success<ReturnType<typeof opened>>

const stillOpen = (all: ReadonlyArray<Opened>) =>
  Effect.andThen(
    settle,
    Effect.sync(() => all.filter(({ fiber }) => fiber.pollUnsafe() === undefined).map(({ kind }) => kind))
  )

/** Asserts that each has ended with the reason. */
const assertRefused = Effect.fnUntraced(function* (all: ReadonlyArray<Opened>) {
  assert.deepStrictEqual(yield* stillOpen(all), [])
  for (const { fiber, kind } of all) {
    const { status, text } = yield* Fiber.join(fiber)
    if (kind === "events" || kind === "log") {
      assert.strictEqual(status, 200, kind)
      assert.match(text, /event: error\ndata: \{"error":"Unauthorized","code":"unauthorized"\}\n\n$/, kind)
    } else {
      assert.deepStrictEqual([status, JSON.parse(text).code], [401, "unauthorized"], kind)
    }
  }
})

describe("Open streams, waits and transfers", () => {
  it.effect("end at once when the server revokes their key, and stay open for another key", () =>
    Effect.gen(function* () {
      const { ask } = yield* WebApi
      const { issue, key, of } = yield* holder
      const second = yield* issue()
      const [revoked, kept] = [
        yield* openAll(of, { "x-api-key": second.key }),
        yield* openAll(of, { authorization: `Bearer ${key}` })
      ]
      assert.deepStrictEqual([yield* stillOpen(revoked), yield* stillOpen(kept)], [every, every])
      yield* TestClock.adjust("30 seconds")
      assert.deepStrictEqual([yield* stillOpen(revoked), yield* stillOpen(kept)], [every, every])
      assert.strictEqual((yield* ask("DELETE", `/api/keys/${second.id}`, { key })).status, 204)
      yield* assertRefused(revoked)
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* stillOpen(kept), every)
    }).pipe(Effect.provide(api))
  )

  it.effect("end within 5 seconds when another server revokes their key", () =>
    Effect.gen(function* () {
      const { account, issue, of } = yield* holder
      const second = yield* issue()
      const all = yield* openAll(of, { "x-api-key": second.key })
      assert.deepStrictEqual(yield* stillOpen(all), every)
      const store = yield* IdentityStore
      const scope = AccountScope.ofOwner({ account: account.id })
      const { id } = (yield* store.listKeys(scope)).find(({ id }) => id === second.id)!
      yield* store.removeKey(scope, id)
      yield* TestClock.adjust("5 seconds")
      yield* assertRefused(all)
    }).pipe(Effect.provide(api))
  )

  it.effect("end when their key expires", () =>
    Effect.gen(function* () {
      const { issue, of } = yield* holder
      const second = yield* issue(DateTime.formatIso(DateTime.add(yield* DateTime.now, { minutes: 1 })))
      const all = yield* openAll(of, { "x-api-key": second.key })
      yield* TestClock.adjust("59 seconds")
      assert.deepStrictEqual(yield* stillOpen(all), every)
      yield* TestClock.adjust("1 second")
      yield* assertRefused(all)
    }).pipe(Effect.provide(api))
  )

  it.effect("end when the configured key of the platform admin is replaced", () =>
    Effect.gen(function* () {
      const keys = yield* ApiKeys
      const configure = (key: string) => keys.ensurePlatformAdmin(Option.some(Redacted.make(key)))
      const first = "a-configured-key-0000000000"
      yield* configure(first)
      const { of } = yield* holder
      const all = [yield* opened("events", of, { "x-api-key": first })]
      assert.deepStrictEqual(yield* stillOpen(all), ["events"])
      yield* configure("another-configured-key-0000")
      yield* assertRefused(all)
    }).pipe(Effect.provide(api))
  )

  it.effect(
    "query the store once every two seconds in total, however many are open, and not at all once they have closed",
    () =>
      Effect.gen(function* () {
        const { ask } = yield* WebApi
        const { issue, key, of } = yield* holder
        yield* TestClock.adjust("1 second")
        const keys = [key, (yield* issue()).key, (yield* issue()).key]
        const all = yield* Effect.forEach(Array.from({ length: 30 }), (_, at) =>
          opened("log", of, { "x-api-key": keys[at % 3]! })
        )
        assert.strictEqual((yield* stillOpen(all)).length, 30)
        const { calls } = yield* Faults.Faults
        const looks = Effect.fnUntraced(function* (seconds: number) {
          const before = calls.length
          for (let second = 0; second < seconds; second++) {
            yield* TestClock.adjust("1 second")
            yield* settle
          }
          return calls.slice(before).filter((call) => call.startsWith("IdentityStore"))
        })
        assert.deepStrictEqual(
          yield* looks(20),
          Array.from({ length: 10 }, () => "IdentityStore.findExisting")
        )
        const listed = yield* ask("GET", "/api/keys", { key })
        // The account's first key is the oldest, so it is listed last.
        for (const { id } of listed.json.keys) yield* ask("DELETE", `/api/keys/${id}`, { key })
        assert.deepStrictEqual(yield* stillOpen(all), [])
        assert.deepStrictEqual(yield* looks(20), [])
      }).pipe(Effect.provide(api))
  )
})

describe("A waiting request with an idempotency key whose credential is revoked", () => {
  it.effect("does not start its command again when it is repeated with another credential", () =>
    Effect.gen(function* () {
      const { ask } = yield* WebApi
      const { issue, key, of } = yield* holder
      const second = yield* issue()
      const all = [yield* opened("wait", of, { "x-api-key": second.key, "idempotency-key": "k1" })]
      assert.deepStrictEqual(yield* stillOpen(all), ["wait"])
      yield* ask("DELETE", `/api/keys/${second.id}`, { key })
      yield* assertRefused(all)
      yield* TestClock.adjust("5 minutes")
      const again = [yield* opened("wait", of, { "x-api-key": key, "idempotency-key": "k1" })]
      yield* stillOpen(again)
      const { json } = yield* ask("GET", "/api/tasks/runs", { key })
      // The command of the create, and the command that is waited for.
      assert.strictEqual(json.runs.length, 2)
    }).pipe(Effect.provide(api))
  )
})
