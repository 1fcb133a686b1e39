import { assert, layer } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { castellan, fetchOfApi, untilDone } from "./castellanCommand.ts"
import { WebApi } from "../../http/test/WebApi.ts"

const refused = Object.assign(new TypeError("fetch failed"), { cause: { code: "ECONNREFUSED" } })

layer(WebApi.layer)("castellan events", (it) => {
  const join = Effect.flatMap(WebApi, (api) => api.join())

  /** Creates and stops a sandbox, which emits three events. */
  const passing = Effect.fnUntraced(function* (key: string) {
    const { ask } = yield* WebApi
    const { json } = yield* ask("POST", "/api/sandboxes", { key })
    const { sandboxId } = json.sandboxes[0]
    yield* ask("DELETE", `/api/sandboxes/${sandboxId}`, { key })
    return sandboxId as string
  })

  /** Follows until it has printed the given number of lines, then interrupts. */
  const following = Effect.fnUntraced(function* (
    args: ReadonlyArray<string>,
    around: { readonly key: string; readonly fetch?: typeof globalThis.fetch }
  ) {
    let printed = ""
    const fiber = yield* Effect.forkChild(
      castellan(["events", "-f", ...args], { ...around, onPrint: (text) => (printed += text) })
    )
    const lines = () => printed.split("\n").slice(0, -1)
    const until = Effect.fnUntraced(function* (count: number) {
      while (lines().length < count) yield* passed
      return lines()
    })
    return { fiber, lines, until, stop: Fiber.interrupt(fiber) }
  })

  const passed = Effect.gen(function* () {
    yield* TestClock.adjust("250 millis")
    yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
  })

  it.effect("prints a line for each stored event, and ends", () =>
    Effect.gen(function* () {
      const { key } = yield* join
      const none = yield* castellan(["events"], { key })
      assert.deepStrictEqual([none.exit, none.stdout, none.stderr], [0, "", "castellan: no events\n"])
      const name = yield* passing(key)
      const said = yield* castellan(["events"], { key })
      assert.deepStrictEqual([said.exit, said.stderr], [0, ""])
      const lines = said.stdout.split("\n").slice(0, -1)
      assert.strictEqual(lines.length, 3)
      for (const [index, told] of [
        `pending +${name} +-`,
        `running +${name} +-`,
        `removed +${name} +- +It was deleted`
      ].entries()) {
        assert.match(lines[index]!, new RegExp(`^\\d{4}-\\S+Z +sandbox.${told}$`))
      }
    })
  )

  it.effect("prints a session's events with its id and the reason", () =>
    Effect.gen(function* () {
      const { key } = yield* join
      const { ask } = yield* WebApi
      const { json } = yield* ask("POST", "/api/sessions", { key, body: {} })
      const said = yield* castellan(["events"], { key })
      assert.match(said.stdout, new RegExp(`^\\S+ +session.created +- +${json.session.id}\n$`))
    })
  )

  it.effect("prints with --json one event object per line, as the API sends it", () =>
    Effect.gen(function* () {
      const { key } = yield* join
      const name = yield* passing(key)
      const said = yield* castellan(["events", "--json"], { key })
      const told = said.stdout
        .split("\n")
        .slice(0, -1)
        .map((line) => JSON.parse(line))
      assert.deepStrictEqual(
        told.map(({ code, reason, sandboxId, sessionId, type }) => [type, sandboxId, sessionId, code, reason]),
        [
          ["sandbox.pending", name, null, "created", null],
          ["sandbox.running", name, null, "started", null],
          ["sandbox.removed", name, null, "user_requested", "It was deleted"]
        ]
      )
    })
  )

  it.effect("follows new events only, or all from the start", () =>
    Effect.gen(function* () {
      const { key } = yield* join
      const before = yield* passing(key)
      const fromNow = yield* following([], { key })
      const fromStart = yield* following(["--from", "start"], { key })
      assert.isTrue((yield* fromStart.until(3)).every((line) => line.includes(before)))
      const after = yield* passing(key)
      assert.isTrue((yield* fromNow.until(3)).every((line) => line.includes(after)))
      assert.strictEqual((yield* fromStart.until(6)).length, 6)
      yield* fromNow.stop
      yield* fromStart.stop
      const nothing = yield* castellan(["events", "--from", "now"], { key })
      assert.deepStrictEqual(
        [nothing.exit, nothing.stderr],
        [2, "castellan: --from now needs -f: there are no events between now and now\n"]
      )
    })
  )

  it.effect("prints every event once, however often the connection breaks", () =>
    Effect.gen(function* () {
      const { key } = yield* join
      yield* passing(key)
      const real = yield* fetchOfApi
      const asked: Array<string | null> = []
      let cut = () => {}
      let isHeard = false
      const fetch: typeof globalThis.fetch = async (input, init) => {
        asked.push(new Headers(init?.headers).get("last-event-id"))
        isHeard = false
        if (asked.length % 4 === 3) throw refused
        const { body, headers } = await real(input, init)
        const broken = new AbortController()
        cut = () => broken.abort()
        const heard = new TransformStream<Uint8Array, Uint8Array>({
          transform: (chunk, controller) => {
            isHeard ||= new TextDecoder().decode(chunk).includes("event: now")
            controller.enqueue(chunk)
          }
        })
        body!.pipeTo(heard.writable, { signal: broken.signal }).catch(() => {})
        return new Response(heard.readable, { headers })
      }
      const { lines, stop, until } = yield* following([], { key, fetch })
      /** Waits for the given number of connections, and until the last one has received its cursor. */
      const connections = Effect.fnUntraced(function* (count: number) {
        while (asked.length < count || !isHeard) yield* passed
        for (let i = 0; i < 5; i++) yield* passed
      })
      const names: Array<string> = []
      yield* connections(1)
      for (let round = 1; round <= 5; round++) {
        cut()
        // This event occurs while no connection is open.
        names.push(yield* passing(key))
        yield* until(names.length * 3)
        yield* connections(round + 1)
      }
      yield* stop
      assert.isAbove(asked.length, 5)
      assert.isNull(asked[0]!)
      for (const id of asked.slice(1)) assert.match(id!, /^\d+$/)
      assert.deepStrictEqual(
        lines().map((line) => line.split(/ +/)[2]),
        names.flatMap((name) => [name, name, name])
      )
    })
  )

  it.effect("reconnects after a broken connection until it has printed all stored events", () =>
    Effect.gen(function* () {
      const { key } = yield* join
      for (let i = 0; i < 3; i++) yield* passing(key)
      const real = yield* fetchOfApi
      let connections = 0
      const fetch: typeof globalThis.fetch = async (input, init) => {
        const { body, headers } = await real(input, init)
        if (++connections > 2) return new Response(body, { headers })
        // The response breaks off in the middle of an event.
        const half = new TransformStream<Uint8Array, Uint8Array>({
          transform: (chunk, controller) => {
            const events = new TextDecoder().decode(chunk)
            if (!events.includes("event:")) return controller.enqueue(chunk)
            controller.enqueue(chunk.slice(0, chunk.length / 2))
            controller.terminate()
          }
        })
        return new Response(body!.pipeThrough(half), { headers })
      }
      const said = yield* untilDone(yield* Effect.forkChild(castellan(["events", "--json"], { key, fetch })))
      assert.strictEqual(connections, 3)
      const { stdout } = yield* castellan(["events", "--json"], { key })
      assert.deepStrictEqual([said.exit, said.stdout, said.stderr], [0, stdout, ""])
    })
  )

  it.effect("shows the events of an account to its members until they are removed, and never to others", () =>
    Effect.gen(function* () {
      const { ask } = yield* WebApi
      const [owner, member] = [yield* join, yield* join]
      const made = yield* ask("POST", "/api/organizations", { key: owner.key, body: { name: "Analytical Engines" } })
      const members = `/api/organizations/${made.json.organization.id}/members`
      yield* ask("POST", members, { key: owner.key, body: { accountId: member.account.id } })
      const args = ["--account", owner.account.id]
      const denied = [3, "castellan: Access denied to specified account_id\n"]
      const early = yield* castellan(["events", ...args], { key: member.key })
      assert.deepStrictEqual([early.exit, early.stderr], denied)
      yield* ask("POST", `${members}/accept`, { key: member.key })
      const { fiber, until } = yield* following([...args, "--from", "start"], { key: member.key })
      yield* passing(owner.key)
      yield* until(3)
      yield* ask("DELETE", `${members}/${member.account.id}`, { key: owner.key })
      const said = yield* untilDone(fiber)
      assert.deepStrictEqual([said.exit, said.stderr], denied)
    })
  )

  it.effect("fails after several attempts when the server does not come back", () =>
    Effect.gen(function* () {
      const { key } = yield* join
      const { fiber } = yield* following([], { key, fetch: () => Promise.reject(refused) })
      const said = yield* untilDone(fiber)
      assert.strictEqual(said.exit, 5)
      assert.match(said.stderr, /^castellan: no server listens at http:\/\/localhost:3000 /)
    })
  )
})
