/** The network of sandboxes when their server is killed and another one starts. */
import { assert, it } from "@effect/vitest"
import { Effect, Schedule } from "effect"
import { once } from "node:events"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { killed, listening, onPostgres } from "./serverProcess.ts"

const website = Effect.acquireRelease(
  Effect.promise(async () => {
    const server = createServer((request, response) => response.end(`page of ${request.headers.host}`))
    await once(server.listen(0, "127.0.0.1"), "listening")
    return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
  }),
  ({ server }) => Effect.sync(() => server.close())
)

const key = "key-of-the-admin-of-a-test"

const ask = (url: string, method: string, path: string, body: unknown) =>
  Effect.promise(async () => {
    const headers = { "x-api-key": key, "content-type": "application/json" }
    const response = await fetch(`${url}${path}`, { method, headers, body: JSON.stringify(body) })
    return (await response.json()) as any
  })

it.live("a running sandbox regains its network when another server starts after its server was killed", () =>
  Effect.gen(function* () {
    const { url: page } = yield* website
    const environment = {
      ...(yield* onPostgres),
      CASTELLAN_ADMIN_KEY: key,
      CASTELLAN_NETWORK: "public",
      CASTELLAN_EGRESS_HOSTS: `www.example.com=${page}`
    }
    const first = yield* listening(environment)
    const created = yield* ask(first.url, "POST", "/api/sandboxes", {})
    const id: string = created.sandboxes[0].sandboxId
    const curl = (url: string) =>
      ask(url, "POST", `/api/sandboxes/${id}/commands`, {
        command: "curl",
        args: ["-sS", "--max-time", "20", "http://www.example.com/"],
        wait: true
      })
    assert.strictEqual((yield* curl(first.url)).run.output.stdout, "page of www.example.com")

    // A program that keeps making requests while no server runs, and prints their results.
    const loop = "while sleep 0.2; do curl -s --max-time 5 http://www.example.com/ > /dev/null; echo $? >> codes; done"
    yield* ask(first.url, "POST", `/api/sandboxes/${id}/commands`, { command: "sh", args: ["-c", loop] })
    yield* Effect.sleep("1 second")
    yield* killed(first)
    yield* Effect.sleep("2 seconds")

    const second = yield* listening(environment)
    assert.strictEqual((yield* curl(second.url)).run.output.stdout, "page of www.example.com")
    const codes = Effect.map(
      ask(second.url, "POST", `/api/sandboxes/${id}/commands`, { command: "cat", args: ["codes"], wait: true }),
      ({ run }) => String(run.output.stdout).trim().split("\n")
    )
    const seen = yield* Effect.repeat(codes, {
      schedule: Schedule.spaced("500 millis"),
      until: (all) => all.at(-1) === "0",
      times: 40
    }).pipe(Effect.andThen(codes))
    assert.strictEqual(seen[0], "0")
    assert.isTrue(
      seen.some((code) => code !== "0"),
      "requests fail while no server is there"
    )
    assert.strictEqual(seen.at(-1), "0")
  }).pipe(Effect.scoped)
)
