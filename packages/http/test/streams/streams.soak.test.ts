/** Streams, waits and transfers whose clients disconnect, on a server process. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { readdirSync } from "node:fs"
import { type ClientRequest, type IncomingMessage, request } from "node:http"
import { setTimeout as later } from "node:timers/promises"
import { listening, usedDirectory } from "../server/serverProcess.ts"

interface Given {
  readonly method?: string
  readonly headers?: Record<string, string>
  readonly body?: unknown
}

const sent = (url: string, key: string, { body, headers = {}, method = "GET" }: Given = {}): ClientRequest => {
  const asked = request(url, {
    agent: false,
    method,
    headers: { "x-api-key": key, "content-type": "application/json", ...headers }
  })
  asked.on("error", () => undefined)
  if (body === undefined) asked.flushHeaders()
  else asked.write(typeof body === "string" ? body : JSON.stringify(body))
  return asked
}

const answered = (asked: ClientRequest) =>
  new Promise<IncomingMessage>((resolve, reject) => {
    asked.once("response", resolve).once("error", reject)
    asked.end()
  })

const ask = async (url: string, key: string, given: Given = {}) => {
  const answer = await answered(sent(url, key, given))
  let text = ""
  for await (const chunk of answer.setEncoding("utf8")) text += chunk
  return { status: answer.statusCode, json: JSON.parse(text) }
}

const until = async (what: string, holds: () => boolean | Promise<boolean>) => {
  const deadline = Date.now() + 30_000
  while (!(await holds())) {
    if (Date.now() > deadline) assert.fail(what)
    await later(50)
  }
}

const times = <A>(count: number, make: () => Promise<A>) => Promise.all(Array.from({ length: count }, make))

describe("A server whose clients disconnect", () => {
  it.live(
    "releases what their streams, waits and transfers held, and keeps one account from using the capacity of others",
    () =>
      Effect.gen(function* () {
        const environment = { CASTELLAN_DATA_DIR: yield* usedDirectory }
        const { child, key, url } = yield* listening(environment, { descriptors: 700 })
        const descriptors = () => readdirSync(`/proc/${child.pid}/fd`).length
        yield* Effect.promise(async () => {
          const made = await ask(`${url}/api/sandboxes`, key!, {
            method: "POST",
            body: { command: "sh", args: ["-c", "head -c 30000000 /dev/zero > big; sleep 600"] }
          })
          const { runId, sandboxId } = made.json.sandboxes[0]
          const sandbox = `${url}/api/sandboxes/${sandboxId}`
          const files = async () => (await ask(`${sandbox}/files`, key!)).json.files as ReadonlyArray<{ size: number }>
          await until("the file is written", async () => (await files()).some(({ size }) => size === 30_000_000))

          const kinds: Record<string, () => Promise<{ readonly destroy: () => unknown }>> = {
            log: () => answered(sent(`${url}/api/tasks/runs/${runId}/logs`, key!)),
            events: () => answered(sent(`${url}/api/events`, key!)),
            download: () => answered(sent(`${sandbox}/file?path=big`, key!)),
            upload: async () => {
              const headers = { "content-type": "application/octet-stream", "content-length": "8" }
              return sent(`${sandbox}/file?path=up`, key!, { method: "PUT", headers, body: "half" })
            },
            wait: async () => {
              const body = { command: "sleep", args: ["600"], wait: true }
              const asked = sent(`${sandbox}/commands`, key!, { method: "POST", body })
              asked.end()
              return asked
            }
          }
          const before = descriptors()
          for (const [kind, open] of Object.entries(kinds)) {
            const clients = await times(20, open)
            await until(`every ${kind} is open`, () => descriptors() >= before + 20)
            for (const client of clients) client.destroy()
            await until(`every ${kind} is closed`, () => descriptors() < before + 10)
          }

          const logs: Array<IncomingMessage> = []
          while (logs.at(-1)?.statusCode !== 429) {
            logs.push(await answered(sent(`${url}/api/tasks/runs/${runId}/logs`, key!)))
          }
          assert.isAbove(logs.length, 20)
          const { json } = await ask(`${url}/api/accounts`, key!, { method: "POST" })
          const issued = await ask(`${url}/api/keys`, key!, {
            method: "POST",
            body: { name: "b", account_id: json.account.id }
          })
          const other = issued.json.key
          const theirs = await ask(`${url}/api/sandboxes`, other, { method: "POST" })
          const commands = `${url}/api/sandboxes/${theirs.json.sandboxes[0].sandboxId}/commands`
          const ran = await ask(commands, other, {
            method: "POST",
            body: { command: "echo", args: ["fine"], wait: true }
          })
          assert.deepStrictEqual([ran.json.run?.status, ran.json.run?.output?.stdout], ["COMPLETED", "fine\n"])
          for (const log of logs) log.destroy()
        })
      }).pipe(Effect.scoped)
  )
})
