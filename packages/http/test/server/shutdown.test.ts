/** Servers that are shut down while they handle requests. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { once } from "node:events"
import { Agent, type IncomingMessage, createServer, request } from "node:http"
import { type AddressInfo, connect } from "node:net"
import { setTimeout as later } from "node:timers/promises"
import { listening, onPostgres, type Running } from "./serverProcess.ts"

/** The exit code, once it has ended. */
const exit = ({ child }: Running) =>
  Effect.promise(async () => {
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit")
    return child.exitCode ?? child.signalCode
  })

interface Given {
  readonly method?: string
  readonly headers?: Record<string, string>
  readonly agent?: Agent
}

const opened = (url: string, { agent, headers = {}, method = "GET" }: Given = {}) => {
  const asked = request(url, { method, headers, ...(agent === undefined ? {} : { agent }) })
  const answer = new Promise<IncomingMessage>((resolve, reject) =>
    asked.once("response", resolve).once("error", reject)
  )
  answer.catch(() => undefined)
  return { asked, answer }
}

const textOf = async (answer: IncomingMessage) => {
  let text = ""
  for await (const chunk of answer.setEncoding("utf8")) text += chunk
  return text
}

const ask = async (url: string, key: string, path: string, { body, ...given }: Given & { body?: unknown } = {}) => {
  const headers = { "x-api-key": key, "content-type": "application/json", ...given.headers }
  const { answer, asked } = opened(`${url}${path}`, { ...given, headers })
  asked.end(body === undefined ? undefined : JSON.stringify(body))
  const response = await answer
  return { status: response.statusCode, headers: response.headers, text: await textOf(response) }
}

const until = async (holds: () => boolean) => {
  while (!holds()) await later(20)
}

const printed = (log: string) =>
  [...log.matchAll(/^data: (\{"stream".*)$/gm)].map(([, data]) => JSON.parse(data!).text).join("")

describe("A server that receives SIGTERM", () => {
  it.live("completes running requests, sends streams elsewhere, loses no data, and exits with 0", () =>
    Effect.gen(function* () {
      const environment = { ...(yield* onPostgres), CASTELLAN_SHUTDOWN_SECONDS: "60", CASTELLAN_LOG: "json" }
      const first = yield* listening(environment)
      const key = first.key!
      const done = yield* Effect.promise(async () => {
        const script = "for i in 1 2 3 4 5 6 7 8 9; do echo line $i; sleep 0.3; done; exit 3"
        const command = { command: "sh", args: ["-c", script] }
        const made = await ask(first.url, key, "/api/sandboxes", { method: "POST", body: command })
        const { runId, sandboxId } = JSON.parse(made.text).sandboxes[0]
        const waiting = ask(first.url, key, `/api/sandboxes/${sandboxId}/commands`, {
          method: "POST",
          body: { command: "sleep", args: ["600"], wait: true }
        })

        const log = opened(`${first.url}/api/tasks/runs/${runId}/logs`, { headers: { "x-api-key": key } })
        log.asked.end()
        const reading = await log.answer
        let read = ""
        reading.setEncoding("utf8").on("data", (chunk) => (read += chunk))
        const upload = opened(`${first.url}/api/sandboxes/${sandboxId}/file?path=uploaded`, {
          method: "PUT",
          headers: { "x-api-key": key, "content-type": "application/octet-stream", "content-length": "8" }
        })
        upload.asked.write("half")
        const agent = new Agent({ keepAlive: true })
        const busy = await ask(first.url, key, "/health", { agent })
        const { hostname, port } = new URL(first.url)
        const silent = connect(Number(port), hostname)
        const idle = connect(Number(port), hostname)
        idle.write("GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        await Promise.all([once(idle, "data"), until(() => read.includes("line 2"))])
        const idleClosed = once(idle, "close")
        const silentClosed = once(silent, "close")
        const readAll = once(reading, "end")

        first.child.kill("SIGTERM")
        const answered = await waiting
        await Promise.all([idleClosed, readAll])
        const [ready, health] = [await ask(first.url, key, "/ready", { agent }), await ask(first.url, key, "/health")]
        upload.asked.end("half")
        const written = await upload.answer
        const size = await textOf(written)
        await silentClosed
        agent.destroy()
        return { runId, sandboxId, busy, answered, read, ready, health, written, size }
      })
      assert.strictEqual(yield* exit(first), 0)

      assert.strictEqual(done.busy.headers.connection, "keep-alive")
      assert.deepStrictEqual([done.ready.status, done.ready.headers.connection], [503, "close"])
      assert.strictEqual(JSON.parse(done.ready.text).code, "not_ready")
      assert.deepStrictEqual([done.health.status, done.health.headers.connection], [200, "close"])
      assert.deepStrictEqual([done.answered.status, done.answered.headers.connection], [202, "close"])
      const handedOver = JSON.parse(done.answered.text).runId
      assert.deepStrictEqual([done.written.statusCode, done.written.headers.connection], [200, "close"])
      assert.strictEqual(JSON.parse(done.size).size, 8)
      assert.include(done.read, "\nretry: 1000\n")
      assert.notInclude(done.read, "event: exit")

      const lines = [...first.said().matchAll(/^\{.*\}$/gm)].map(([line]) => JSON.parse(line))
      const line = lines.find(({ route, status }) => route === "/ready" && status === 503)
      assert.deepInclude(line, { level: "INFO", message: "request", method: "GET" })

      const second = yield* listening(environment)
      yield* Effect.promise(async () => {
        const last = [...done.read.matchAll(/^id: (.+)$/gm)].at(-1)![1]!
        const path = `/api/tasks/runs/${done.runId}/logs`
        const rest = await ask(second.url, key, path, { headers: { "last-event-id": last } })
        const lines = Array.from({ length: 9 }, (_, i) => `line ${i + 1}\n`)
        assert.strictEqual(printed(done.read) + printed(rest.text), lines.join(""))
        assert.include(rest.text, 'data: {"status":"COMPLETED","exitCode":3,"truncated":false}')
        const file = await ask(second.url, key, `/api/sandboxes/${done.sandboxId}/file?path=uploaded`)
        assert.strictEqual(file.text, "halfhalf")
        const { text } = await ask(second.url, key, `/api/tasks/runs/${handedOver}/cancel`, { method: "POST" })
        assert.strictEqual(JSON.parse(text).run.status, "CANCELED")
      })
      second.child.kill("SIGINT")
      assert.strictEqual(yield* exit(second), 0)
    }).pipe(Effect.scoped)
  )

  it.live("completes running requests and exits with 0 when its terminal is closed", () =>
    Effect.gen(function* () {
      const server = yield* listening({ ...(yield* onPostgres), CASTELLAN_SHUTDOWN_SECONDS: "60" })
      const key = server.key!
      yield* Effect.promise(async () => {
        const made = await ask(server.url, key, "/api/sandboxes", { method: "POST", body: {} })
        const { sandboxId } = JSON.parse(made.text).sandboxes[0]
        const upload = opened(`${server.url}/api/sandboxes/${sandboxId}/file?path=uploaded`, {
          method: "PUT",
          headers: {
            "x-api-key": key,
            "content-type": "application/octet-stream",
            "content-length": "8",
            expect: "100-continue"
          }
        })
        upload.asked.flushHeaders()
        await once(upload.asked, "continue")
        upload.asked.write("half")

        // The kernel and the shell each send a signal; the second is no request to end at once.
        for (const status of [503, 503]) {
          server.child.kill("SIGHUP")
          while ((await ask(server.url, key, "/ready")).status !== status);
        }
        upload.asked.end("half")
        assert.strictEqual((await upload.answer).statusCode, 200)
      })
      assert.strictEqual(yield* exit(server), 0)
    }).pipe(Effect.scoped)
  )

  it.live("cuts off requests after the grace period and exits with 0, or at once on a second signal", () =>
    Effect.gen(function* () {
      const registry = yield* Effect.acquireRelease(
        Effect.promise(async () => {
          // This request never gets a response.
          const server = createServer(() => undefined).listen(0, "127.0.0.1")
          await once(server, "listening")
          return server
        }),
        (server) => Effect.sync(() => (server.closeAllConnections(), server.close()))
      )
      const environment = {
        ...(yield* onPostgres),
        CASTELLAN_NPM_REGISTRY: `http://127.0.0.1:${(registry.address() as AddressInfo).port}`,
        CASTELLAN_ADMIN_KEY: "key-of-the-admin-of-a-test"
      }
      const signaled = Effect.fnUntraced(function* (seconds: string, signals: ReadonlyArray<NodeJS.Signals>) {
        const server = yield* listening({ ...environment, CASTELLAN_SHUTDOWN_SECONDS: seconds })
        const asked = opened(`${server.url}/api/sandbox/create`, {
          method: "POST",
          headers: { "x-api-key": environment.CASTELLAN_ADMIN_KEY, "content-type": "application/json" }
        })
        asked.asked.end("{}")
        yield* Effect.promise(async () => {
          await ask(server.url, environment.CASTELLAN_ADMIN_KEY, "/api/keys")
          for (const signal of signals) {
            server.child.kill(signal)
            while ((await ask(server.url, "", "/ready").catch(() => ({ status: 503 }))).status !== 503);
          }
        })
        const code = yield* exit(server)
        const failure = yield* Effect.promise(() =>
          asked.answer.then(
            () => "answered",
            () => "cut"
          )
        )
        return [code, failure]
      })
      assert.deepStrictEqual(yield* signaled("300", ["SIGTERM", "SIGTERM"]), [143, "cut"])
      assert.deepStrictEqual(yield* signaled("1", ["SIGTERM"]), [0, "cut"])
    }).pipe(Effect.scoped)
  )
})
