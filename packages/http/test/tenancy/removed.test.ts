import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { assert, layer } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, Logger, Stream } from "effect"
import { TestClock } from "effect/testing"
import { WebApi } from "../WebApi.ts"
import { accessDenied } from "./expectations.ts"

/** Reads of files return one chunk per second, endlessly. */
const slowFiles = Layer.effect(
  SandboxProvider,
  Effect.map(SandboxProvider, (real) => ({
    ...real,
    readFile: () => Stream.tick("1 second").pipe(Stream.map(() => new Uint8Array([46])))
  }))
)

const api = WebApi.over(slowFiles).pipe(Layer.provideMerge(Logger.layer([])))

const bytes = { "content-type": "application/octet-stream" }

/** A member of an organization, a sandbox of the owner, and the member's removal. */
const peers = Effect.gen(function* () {
  const { ask, join } = yield* WebApi
  const [owner, member] = [yield* join(), yield* join()]
  const made = yield* ask("POST", "/api/organizations", { key: owner.key, body: { name: "Analytical Engines" } })
  const members = `/api/organizations/${made.json.organization.id}/members`
  yield* ask("POST", members, { key: owner.key, body: { accountId: member.account.id } })
  yield* ask("POST", `${members}/accept`, { key: member.key })
  const { json } = yield* ask("POST", "/api/sandboxes", { key: owner.key })
  const inside = `/api/sandboxes/${json.sandboxes[0].sandboxId}`
  const remove = Effect.gen(function* () {
    yield* TestClock.adjust("3 seconds")
    const { status } = yield* ask("DELETE", `${members}/${member.account.id}`, { key: owner.key })
    assert.strictEqual(status, 204)
  })
  return { owner, member, remove, at: (rest: string) => `${inside}${rest}account_id=${owner.account.id}` }
})

layer(api)("A member who is removed", (it) => {
  it.effect("stops waiting for a command, with and without an idempotency key", () =>
    Effect.gen(function* () {
      const { ask } = yield* WebApi
      const { at, member, remove } = yield* peers
      const body = { command: "sleep", args: ["600"], wait: true }
      const waiting = yield* Effect.forEach([{}, { "idempotency-key": "k" }], (headers) =>
        Effect.forkChild(ask("POST", at("/commands?"), { key: member.key, body, headers }))
      )
      yield* remove
      for (const fiber of waiting) {
        const { json, status } = yield* Fiber.join(fiber)
        assert.deepStrictEqual([status, json], [accessDenied.status, accessDenied.body])
      }
    })
  )

  it.effect("can't see or cancel any run, not even its own", () =>
    Effect.gen(function* () {
      const { ask } = yield* WebApi
      const { at, member, owner, remove } = yield* peers
      const { key } = member
      const started = yield* ask("POST", at("/commands?"), { key, body: { command: "sleep", args: ["600"] } })
      const { runId } = started.json
      const requests = [
        ["GET", `/api/tasks/runs?runId=${runId}&`],
        ["GET", `/api/tasks/runs/${runId}/logs?`],
        ["POST", `/api/tasks/runs/${runId}/cancel?`]
      ] as const
      yield* remove
      for (const [method, path] of requests) {
        const through = yield* ask(method, `${path}account_id=${owner.account.id}`, { key })
        assert.deepStrictEqual([through.status, through.json], [accessDenied.status, accessDenied.body], path)
        const direct = yield* ask(method, path, { key })
        assert.deepStrictEqual([direct.status, direct.json.error], [404, "Task run not found"], path)
      }
      const { json } = yield* ask("GET", requests[0][1], { key: owner.key })
      assert.strictEqual(json.runs[0].status, "EXECUTING")
    })
  )

  it.effect("gets no more of a file that it reads, and sees that the file is incomplete", () =>
    Effect.gen(function* () {
      const { fetch } = yield* WebApi
      const { at, member, remove } = yield* peers
      const request = new Request(`http://castellan.test${at("/file?path=large&")}`, {
        headers: { "x-api-key": member.key }
      })
      const asked = yield* Effect.forkChild(fetch(request))
      yield* TestClock.adjust("1 second")
      const response = yield* Fiber.join(asked)
      assert.strictEqual(response.status, 200)
      const read = yield* Effect.forkChild(Effect.tryPromise(() => response.text()))
      yield* remove
      assert.isTrue(Exit.isFailure(yield* Fiber.await(read)))
    })
  )

  it.effect("does not complete an upload that it had begun", () =>
    Effect.gen(function* () {
      const { ask, fetch } = yield* WebApi
      const { at, member, owner, remove } = yield* peers
      const rest = yield* Deferred.make<void>()
      const body = Stream.toReadableStream(
        Stream.concat(
          Stream.make(new Uint8Array([1])),
          Stream.fromEffect(Effect.as(Deferred.await(rest), new Uint8Array([2])))
        )
      )
      const init = { method: "PUT", headers: { ...bytes, "x-api-key": member.key }, body, duplex: "half" }
      const request = new Request(`http://castellan.test${at("/file?path=late.txt&")}`, init as RequestInit)
      const sent = yield* Effect.forkChild(fetch(request))
      yield* remove
      const response = yield* Fiber.join(sent)
      const told = yield* Effect.promise(() => response.json())
      assert.deepStrictEqual([response.status, told], [accessDenied.status, accessDenied.body])
      yield* Deferred.succeed(rest, undefined)
      const { json } = yield* ask("GET", at("/files?"), { key: owner.key })
      assert.deepStrictEqual(json.files, [])
    })
  )
})
