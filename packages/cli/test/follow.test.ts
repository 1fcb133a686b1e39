import { asSteps, Step } from "@castellan/testkit/Program.ts"
import { assert, layer } from "@effect/vitest"
import { Clock, Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { castellan, fetchOfApi, untilDone } from "./castellanCommand.ts"
import { WebApi } from "../../http/test/WebApi.ts"

const print = (text: string) => Step.Print({ text, to: "stdout" })

const json = (status: number, body: unknown, headers: Record<string, string> = {}) =>
  new Response(JSON.stringify(body), { status, headers: { "content-type": "application/json", ...headers } })

const refusal = (code: string, more: object = {}) => ({ status: "error", success: false, error: code, code, ...more })

const refused = Object.assign(new TypeError("fetch failed"), { cause: { code: "ECONNREFUSED" } })

layer(WebApi.layer)("Following a run and repeating requests", (it) => {
  const join = Effect.flatMap(WebApi, (api) => api.join())

  /** Starts a run of these steps without following it. */
  const started = Effect.fnUntraced(function* (key: string, ...steps: ReadonlyArray<Step>) {
    const { args, command } = asSteps(...steps)
    const said = yield* castellan(["sandboxes", "create", "--json", "--", command, ...args], { key })
    return JSON.parse(said.stdout).sandboxes[0].runId as string
  })

  it.effect("prints each chunk of output once and in order, however often the connection breaks", () =>
    Effect.gen(function* () {
      const { key } = yield* join
      const pieces = Array.from({ length: 6 }, (_, i) => `piece ${i}\n`)
      const run = yield* started(key, ...pieces.flatMap((piece) => [print(piece), Step.Sleep({ millis: 2000 })]))
      const real = yield* fetchOfApi
      const asked: Array<string | null> = []
      const fetch: typeof globalThis.fetch = async (input, init) => {
        asked.push(new Headers(init?.headers).get("last-event-id"))
        if (asked.length === 3) throw refused
        const { body, headers } = await real(input, init)
        const events = body!.pipeThrough(new TextDecoderStream())
        let left = asked.length % 2 === 0 ? 3 : 2
        const broken = events.pipeThrough(
          new TransformStream<string, string>({
            transform: (text, controller) => {
              if (--left > 0 || asked.length > 6) return controller.enqueue(text)
              // A partial event must be ignored.
              controller.enqueue(text.slice(0, text.length / 2))
              if (asked.length % 2 === 0) return controller.terminate()
              controller.error(new Error("the connection broke"))
            }
          })
        )
        return new Response(broken.pipeThrough(new TextEncoderStream()), { headers })
      }
      const following = yield* Effect.forkChild(castellan(["runs", "logs", "-f", run], { key, fetch }))
      const said = yield* untilDone(following)
      assert.deepStrictEqual([said.exit, said.stdout, said.stderr], [0, pieces.join(""), ""])
      assert.isAbove(asked.length, 4)
      assert.isNull(asked[0]!)
      assert.match(asked.at(-1)!, /^\d+\.\d+$/)
    })
  )

  it.effect("keeps following a silent command although each connection is cut", () =>
    Effect.gen(function* () {
      const { key } = yield* join
      const run = yield* started(key, Step.Sleep({ millis: 800_000 }), print("at last\n"))
      const real = yield* fetchOfApi
      const fetch: typeof globalThis.fetch = async (input, init) => {
        const { body, headers } = await real(input, init)
        const cut = new AbortController()
        let beats = 0
        const heard = new TransformStream<Uint8Array, Uint8Array>({
          transform: (chunk, controller) => {
            controller.enqueue(chunk)
            if (++beats === 2) cut.abort()
          }
        })
        body!.pipeTo(heard.writable, { signal: cut.signal }).catch(() => {})
        return new Response(heard.readable, { headers })
      }
      const following = yield* Effect.forkChild(castellan(["runs", "logs", "-f", run], { key, fetch }))
      const said = yield* untilDone(following)
      assert.deepStrictEqual([said.exit, said.stdout, said.stderr], [0, "at last\n", ""])
    })
  )

  it.effect("gives up after several attempts and says how to continue", () =>
    Effect.gen(function* () {
      const { key } = yield* join
      const run = yield* started(key, Step.Sleep({ millis: 1_000_000 }))
      const fetch = () => Promise.reject(refused)
      const following = yield* Effect.forkChild(castellan(["runs", "logs", "-f", run], { key, fetch }))
      const said = yield* untilDone(following)
      assert.strictEqual(said.exit, 5)
      assert.match(
        said.stderr,
        new RegExp(`castellan runs logs -f ${run}\ncastellan: no server listens at http://localhost:3000 `)
      )
    })
  )

  it.effect("does not retry a permanent error", () =>
    Effect.gen(function* () {
      const { key } = yield* join
      const said = yield* castellan(["runs", "logs", "-f", "run_00000000000000000000"], { key })
      assert.deepStrictEqual([said.exit, said.stderr], [4, "castellan: Task run not found\n"])
    })
  )

  it.effect("leaves the run going when it is interrupted, and says how to follow it again", () =>
    Effect.gen(function* () {
      const { key } = yield* join
      const run = yield* started(key, print("begun\n"), Step.Sleep({ millis: 60_000 }), print("done\n"))
      let seen = ""
      let begun = () => {}
      const printing = new Promise<void>((resolve) => (begun = resolve))
      const onPrint = (text: string) => {
        seen += text
        begun()
      }
      const following = yield* Effect.forkChild(castellan(["runs", "logs", "-f", run], { key, onPrint }))
      yield* Effect.promise(() => printing)
      yield* Fiber.interrupt(following)
      assert.strictEqual(
        seen,
        `begun\ncastellan: ${run} is still running; follow it with: castellan runs logs -f ${run}\n`
      )
      const again = yield* Effect.forkChild(castellan(["runs", "logs", "-f", run], { key }))
      assert.strictEqual((yield* untilDone(again)).stdout, "begun\ndone\n")
    })
  )

  it.effect("prints the output so far without -f, and does not wait", () =>
    Effect.gen(function* () {
      const { key } = yield* join
      const run = yield* started(key, print("begun\n"), Step.Sleep({ millis: 3_600_000 }))
      const said = yield* untilDone(yield* Effect.forkChild(castellan(["runs", "logs", run], { key })))
      assert.deepStrictEqual([said.exit, said.stdout, said.stderr], [0, "begun\n", ""])
      const { json } = yield* Effect.flatMap(WebApi, (api) => api.ask("GET", `/api/tasks/runs?runId=${run}`, { key }))
      assert.strictEqual(json.runs[0].status, "EXECUTING")
    })
  )

  it.effect("reports a canceled run and exits with a failure", () =>
    Effect.gen(function* () {
      const { key } = yield* join
      const run = yield* started(key, Step.Sleep({ millis: 3_600_000 }))
      const following = yield* Effect.forkChild(castellan(["runs", "logs", "-f", run], { key }))
      const canceled = yield* castellan(["runs", "cancel", run], { key })
      assert.deepStrictEqual([canceled.exit, canceled.stdout], [0, `${run} CANCELED\n`])
      const said = yield* untilDone(following)
      assert.notStrictEqual(said.exit, 0)
      assert.match(said.stderr, new RegExp(`^castellan: ${run} was canceled`))
    })
  )

  it.effect("creates one sandbox although the first response was lost", () =>
    Effect.gen(function* () {
      const { key } = yield* join
      const real = yield* fetchOfApi
      const keys = new Set<string | null>()
      let asked = 0
      const fetch: typeof globalThis.fetch = async (input, init) => {
        keys.add(new Headers(init?.headers).get("idempotency-key"))
        const response = await real(input, init)
        if (++asked === 1) throw refused
        return response
      }
      const creating = yield* Effect.forkChild(castellan(["sandboxes", "create"], { key, fetch }))
      assert.strictEqual((yield* untilDone(creating)).exit, 0)
      assert.deepStrictEqual([asked, keys.size, keys.has(null)], [2, 1, false])
      const listed = yield* castellan(["sandboxes", "list", "--json"], { key })
      assert.strictEqual(JSON.parse(listed.stdout).sandboxes.length, 1)
      yield* castellan(["sandboxes", "create"], { key, fetch })
      assert.strictEqual(keys.size, 2, "another invocation is another request")
    })
  )

  it.effect("waits for its own first attempt, and does not repeat a request that is not idempotent", () =>
    Effect.gen(function* () {
      const { key } = yield* join
      const answers = [
        refused,
        json(409, refusal("idempotency_in_flight", { retryAfterMs: 1000 })),
        json(201, { id: "key_1", name: "ci", key: "cst_1", expiresAt: null })
      ]
      const fetch = async () => {
        const answer = answers.shift()!
        if (answer instanceof Error) throw answer
        return answer
      }
      const creating = yield* Effect.forkChild(castellan(["keys", "create", "ci"], { key, fetch }))
      assert.deepStrictEqual([(yield* untilDone(creating)).exit, answers.length], [0, 0])

      let asked = 0
      const unreachable = async () => {
        asked++
        throw refused
      }
      const canceling = castellan(["runs", "cancel", "run_1"], { key, fetch: unreachable })
      assert.strictEqual((yield* untilDone(yield* Effect.forkChild(canceling))).exit, 5)
      assert.strictEqual(asked, 1)
    })
  )

  it.effect("gets the response of a request whose connection was silent for five minutes and broke", () =>
    Effect.gen(function* () {
      const { key } = yield* join
      const begun = yield* Clock.currentTimeMillis
      const clock = yield* Clock.Clock
      const seconds = () => (clock.currentTimeMillisUnsafe() - begun) / 1000
      const silent = Object.assign(new TypeError("fetch failed"), { cause: { code: "UND_ERR_HEADERS_TIMEOUT" } })
      let isFirst = true
      const fetch: typeof globalThis.fetch = async () => {
        if (isFirst) {
          isFirst = false
          while (seconds() < 300) await new Promise((resolve) => setImmediate(resolve))
          throw silent
        }
        if (seconds() < 480) return json(409, refusal("idempotency_in_flight", { retryAfterMs: 1000 }))
        return json(200, { success: true, sandboxId: "app-1", url: "http://app.test" })
      }
      const creating = yield* Effect.forkChild(castellan(["apps", "create"], { key, fetch }))
      const said = yield* untilDone(creating)
      assert.deepStrictEqual([said.exit, said.stdout], [0, "app  app-1\nurl  http://app.test\n"])
    })
  )

  it.effect("waits for the retry-after time of a busy server, a limited number of times", () =>
    Effect.gen(function* () {
      const { key } = yield* join
      let asked = 0
      const busy = async () => {
        asked++
        return json(429, refusal("rate_limited"), { "retry-after": "7" })
      }
      const listing = yield* Effect.forkChild(castellan(["keys", "list"], { key, fetch: busy }))
      yield* TestClock.adjust("6 seconds")
      assert.strictEqual(asked, 1)
      const said = yield* untilDone(listing)
      assert.deepStrictEqual([said.exit, said.stderr, asked], [6, "castellan: rate_limited\n", 4])

      asked = 0
      const hours = async () => {
        asked++
        return json(429, refusal("quota_exceeded"), { "retry-after": "7200" })
      }
      assert.strictEqual((yield* castellan(["keys", "list"], { key, fetch: hours })).exit, 6)
      assert.strictEqual(asked, 1)
    })
  )

  it.effect("rejects a response that does not come from Castellan", () =>
    Effect.gen(function* () {
      const { key } = yield* join
      const others = [
        new Response("<h1>It works!</h1>", { status: 200 }),
        new Response("Bad gateway", { status: 502 }),
        new Response(null, { status: 302, headers: { location: "https://elsewhere.example" } })
      ]
      for (const other of others) {
        const said = yield* castellan(["keys", "list"], { key, fetch: async () => other })
        assert.deepStrictEqual([said.exit, said.stdout], [5, ""])
        assert.match(said.stderr, /^castellan: http:\/\/localhost:3000 is no Castellan server: it answered \d+ in/)
      }
    })
  )

  it.effect("reports in one line a response that it can't decode", () =>
    Effect.gen(function* () {
      const { key } = yield* join
      const said = yield* castellan(["keys", "list"], { key, fetch: async () => json(200, { status: "success" }) })
      assert.deepStrictEqual([said.exit, said.stdout], [1, ""])
      assert.match(
        said.stderr,
        /^castellan: unexpected error, which may be a bug or a server of another version: TypeError: .*\n$/
      )
    })
  )
})
