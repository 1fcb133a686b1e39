/** Streams and transfers on two servers over one database, where one server revokes their key. */
import { assert, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { request } from "node:http"
import { listening, onPostgres } from "./serverProcess.ts"

/** A connection whose response is read later; gives the received text once it ends. */
const open = (url: string, key: string, given: { readonly method?: string; readonly body?: string } = {}) =>
  Effect.promise(
    () =>
      new Promise<{ readonly status: number; readonly rest: () => Promise<string> }>((resolve, reject) => {
        const { body, method = "GET" } = given
        const asked = request(url, {
          agent: false,
          method,
          headers: { "x-api-key": key, "content-type": "application/json" }
        })
        asked.once("error", reject).once("response", (answer) => {
          const rest = async () => {
            let text = ""
            try {
              for await (const piece of answer.setEncoding("latin1")) text += piece
              return text
            } catch {
              return `${text}: broken off`
            }
          }
          resolve({ status: answer.statusCode!, rest })
        })
        asked.end(body)
      })
  )

it.live("streams, waits and transfers end on all servers of a database when one of them revokes their key", () =>
  Effect.gen(function* () {
    const environment = { ...(yield* onPostgres), CASTELLAN_ADMIN_KEY: "an-admin-key-for-these-servers" }
    const one = yield* listening(environment)
    const two = yield* listening(environment)
    const ask = (method: string, path: string, body?: unknown) =>
      Effect.promise(async () => {
        const headers = { "x-api-key": environment.CASTELLAN_ADMIN_KEY, "content-type": "application/json" }
        const init = body === undefined ? {} : { body: JSON.stringify(body) }
        const response = await fetch(`${one.url}${path}`, { method, headers, ...init })
        const text = await response.text()
        return text === "" ? undefined : JSON.parse(text)
      })
    const size = 30_000_000
    const script = `head -c ${size} /dev/zero > big; echo ready; exec sleep 600`
    const made = yield* ask("POST", "/api/sandboxes", { command: "sh", args: ["-c", script] })
    const { runId, sandboxId } = made.sandboxes[0]
    const sandbox = `/api/sandboxes/${sandboxId}`
    const issued = yield* ask("POST", "/api/keys", { name: "second" })
    while (true) {
      const { files } = yield* ask("GET", `${sandbox}/files`)
      if (files?.some((file: { readonly size: number }) => file.size === size)) break
      yield* Effect.sleep("50 millis")
    }

    const opened = yield* Effect.forEach([one, two], ({ url }) =>
      Effect.all({
        events: open(`${url}/api/events`, issued.key),
        log: open(`${url}/api/tasks/runs/${runId}/logs`, issued.key),
        download: open(`${url}${sandbox}/file?path=big`, issued.key),
        // The response begins only after the decision, so do not wait for it here.
        wait: Effect.forkChild(
          open(`${url}${sandbox}/commands`, issued.key, {
            method: "POST",
            body: JSON.stringify({ command: "sleep", args: ["600"], wait: true, timeoutMs: 600_000 })
          })
        )
      })
    )
    const live = Effect.map(ask("GET", "/api/tasks/runs"), ({ runs }) =>
      runs.filter(({ status }: { readonly status: string }) => status === "EXECUTING")
    )
    while ((yield* live).length < 3) yield* Effect.sleep("50 millis")
    yield* ask("DELETE", `/api/keys/${issued.id}`)

    for (const { download, events, log, wait } of opened) {
      for (const { rest } of [events, log]) {
        assert.match(
          yield* Effect.promise(rest),
          /event: error\ndata: \{"error":"Unauthorized","code":"unauthorized"\}\n\n$/
        )
      }
      const refused = yield* Fiber.join(wait)
      assert.strictEqual(refused.status, 401)
      const bytes = yield* Effect.promise(download.rest)
      assert.isTrue(bytes.endsWith(": broken off"))
      assert.isBelow(bytes.length, size)
    }
  }).pipe(Effect.scoped)
)
