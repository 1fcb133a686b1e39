import { Repo, RepoName } from "@castellan/domain/repo/Repo.ts"
import { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import { MemorySandboxes } from "@castellan/testkit/fakes/sandbox/MemorySandbox.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Logger } from "effect"
import { WebApi } from "../WebApi.ts"

const quiet = Logger.layer([])
const api = Layer.fresh(WebApi.layer).pipe(Layer.provideMerge(quiet))

const bytes = { "content-type": "application/octet-stream" }

/** An account with a running sandbox, and requests about it. */
const holder = Effect.gen(function* () {
  const { ask, join } = yield* WebApi
  const { account, key } = yield* join()
  const { json } = yield* ask("POST", "/api/sandboxes", { key })
  const { sandboxId } = json.sandboxes[0] as { sandboxId: string }
  return {
    account,
    key,
    sandboxId,
    about: (method: string, rest: string, body?: unknown, headers: Record<string, string> = {}) =>
      ask(method, `/api/sandboxes/${sandboxId}${rest}`, { key, body, headers })
  }
})

describe("One sandbox", () => {
  it.effect("is returned as the list shows it", () =>
    Effect.gen(function* () {
      const { ask } = yield* WebApi
      const { about, key } = yield* holder
      const list = yield* ask("GET", "/api/sandboxes", { key })
      const { json, status } = yield* about("GET", "")
      assert.strictEqual(status, 200)
      assert.deepStrictEqual(json, { status: "success", sandbox: list.json.sandboxes[0] })
    }).pipe(Effect.provide(api))
  )

  it.effect("of another account is answered like an unknown one, by every operation", () =>
    Effect.gen(function* () {
      const { ask, join } = yield* WebApi
      const { sandboxId } = yield* holder
      const stranger = yield* join()
      const requests: ReadonlyArray<readonly [string, string, unknown?]> = [
        ["GET", ""],
        ["POST", "/commands", { command: "true" }],
        ["GET", "/files"],
        ["GET", "/file?path=a"],
        ["PUT", "/file?path=a", "text"],
        ["POST", "/snapshot"],
        ["POST", "/fork"],
        ["POST", "/extend", { ms: 1000 }],
        ["DELETE", ""]
      ]
      for (const [method, rest, body] of requests) {
        const headers = method === "PUT" ? bytes : {}
        const foreign = yield* ask(method, `/api/sandboxes/${sandboxId}${rest}`, { key: stranger.key, body, headers })
        const unknown = yield* ask(method, `/api/sandboxes/sbx_none${rest}`, { key: stranger.key, body, headers })
        const odd = yield* ask(method, `/api/sandboxes/%2e%2e%00${rest}`, { key: stranger.key, body, headers })
        assert.deepStrictEqual([foreign.status, foreign.json.error], [404, "Sandbox not found"], `${method} ${rest}`)
        assert.strictEqual(foreign.text, unknown.text)
        assert.strictEqual(foreign.text, odd.text)
      }
      assert.deepStrictEqual((yield* MemorySandboxes).names().map(String), [sandboxId])
    }).pipe(Effect.provide(api))
  )

  it.effect("runs a command, and waits for its end if requested", () =>
    Effect.gen(function* () {
      const { ask } = yield* WebApi
      const { about, key } = yield* holder
      const waited = yield* about("POST", "/commands", { command: "echo", args: ["a b", "$HOME"], wait: true })
      assert.strictEqual(waited.status, 200)
      assert.deepStrictEqual(
        [waited.json.run.status, waited.json.run.output],
        ["COMPLETED", { stdout: "a b $HOME\n", stderr: "", exitCode: 0, truncated: false }]
      )
      const failing = yield* about("POST", "/commands", { command: "false", wait: true })
      assert.deepStrictEqual([failing.json.run.status, failing.json.run.output.exitCode], ["COMPLETED", 1])
      const started = yield* about("POST", "/commands", { command: "sleep", args: ["1000"] })
      assert.deepStrictEqual([started.status, Object.keys(started.json)], [202, ["status", "runId"]])
      const { json } = yield* ask("POST", `/api/tasks/runs/${started.json.runId}/cancel`, { key })
      assert.strictEqual(json.run.status, "CANCELED")
    }).pipe(Effect.provide(api))
  )

  it.live("answers a waiting request when the command's time is over", () =>
    Effect.gen(function* () {
      const { about } = yield* holder
      const { json, status } = yield* about("POST", "/commands", {
        command: "sleep",
        args: ["1000"],
        timeoutMs: 50,
        wait: true
      })
      assert.strictEqual(status, 200)
      assert.include(["EXECUTING", "TIMED_OUT"], json.run.status)
    }).pipe(Effect.provide(api))
  )

  it.effect("starts one run for one idempotency key, however often it is requested", () =>
    Effect.gen(function* () {
      const { ask } = yield* WebApi
      const { about, key } = yield* holder
      const body = { command: "echo", args: ["once"] }
      const first = yield* about("POST", "/commands", body, { "idempotency-key": "k1" })
      const second = yield* about("POST", "/commands", body, { "idempotency-key": "k1" })
      assert.deepStrictEqual([second.status, second.json], [first.status, first.json])
      const { json } = yield* ask("GET", "/api/tasks/runs", { key })
      assert.strictEqual(json.runs.length, 1)
    }).pipe(Effect.provide(api))
  )

  it.effect("refuses an argument that Linux can't pass on, and a variable without a name", () =>
    Effect.gen(function* () {
      const { about } = yield* holder
      const tried = [
        [{ command: "echo", args: ["x".repeat(131_072)] }, "args.0 must be at most 131071 bytes"],
        [{ command: "x".repeat(131_072) }, "command must be at most 131071 bytes"],
        [
          { command: "env", env: { "A=B": "c" } },
          "env must name its variables by letters, digits and _, not beginning with a digit"
        ],
        [
          { command: "env", env: { "": "c" } },
          "env must name its variables by letters, digits and _, not beginning with a digit"
        ]
      ] as const
      for (const [body, error] of tried) {
        const { json, status } = yield* about("POST", "/commands", body)
        assert.deepStrictEqual([status, json.error], [400, error])
      }
    }).pipe(Effect.provide(api))
  )

  it.effect("names the media type that an upload needs", () =>
    Effect.gen(function* () {
      const { about } = yield* holder
      const { json, status } = yield* about("PUT", "/file?path=a", "text")
      assert.deepStrictEqual([status, json.error], [415, "Content-Type must be application/octet-stream"])
    }).pipe(Effect.provide(api))
  )

  it.effect("stores uploaded files byte for byte", () =>
    Effect.gen(function* () {
      const { fetch } = yield* WebApi
      const { about, key, sandboxId } = yield* holder
      const written = yield* about("PUT", "/file?path=notes/ä%20b.txt", "some\ntext", bytes)
      assert.deepStrictEqual(written.json, { status: "success", path: "notes/ä b.txt", size: 9 })
      const read = yield* about("GET", "/file?path=notes/ä%20b.txt")
      assert.deepStrictEqual(
        [read.status, read.text, read.headers.get("content-type")],
        [200, "some\ntext", "application/octet-stream"]
      )
      const all = Uint8Array.from({ length: 100_000 }, (_, n) => n % 256)
      const at = `http://castellan.test/api/sandboxes/${sandboxId}/file?path=/tmp/bytes`
      const headers = { ...bytes, "x-api-key": key }
      const put = yield* fetch(new Request(at, { method: "PUT", headers, body: all }))
      assert.strictEqual(put.status, 200)
      const got = yield* fetch(new Request(at, { headers }))
      assert.deepStrictEqual(new Uint8Array(yield* Effect.promise(() => got.arrayBuffer())), all)
      const empty = yield* fetch(new Request(at, { method: "PUT", headers, body: new Uint8Array() }))
      assert.strictEqual(empty.status, 200)
      assert.strictEqual((yield* about("GET", "/file?path=/tmp/bytes")).text, "")
    }).pipe(Effect.provide(api))
  )

  it.effect("lists its files, recursively if requested", () =>
    Effect.gen(function* () {
      const { about } = yield* holder
      yield* about("PUT", "/file?path=a/b/c.txt", "c", bytes)
      const list = (rest: string) =>
        Effect.map(about("GET", `/files${rest}`), ({ json }) =>
          json.files.map(({ path, size, type }: any) => [path, type, size])
        )
      assert.deepStrictEqual(yield* list(""), [["a", "directory", 0]])
      assert.deepStrictEqual(yield* list("?recursive=true"), [
        ["a", "directory", 0],
        ["a/b", "directory", 0],
        ["a/b/c.txt", "file", 1]
      ])
      assert.deepStrictEqual(yield* list("?path=a/b"), [["c.txt", "file", 1]])
      const { json } = yield* about("GET", "/files?path=a/b")
      assert.match(json.files[0].modifiedAt, /^\d{4}-\d\d-\d\dT/)
    }).pipe(Effect.provide(api))
  )

  it.effect("lists its files in pages, to the requested depth", () =>
    Effect.gen(function* () {
      const { about } = yield* holder
      for (const path of ["a/1", "a/b/2", "c d?&=/ü", "e"])
        yield* about("PUT", `/file?path=${encodeURIComponent(path)}`, "x", bytes)
      const all = ["a", "a/1", "a/b", "a/b/2", "c d?&=", "c d?&=/ü", "e"]
      const found: Array<string> = []
      let rest = ""
      do {
        const { json, status } = yield* about("GET", `/files?recursive=1&limit=2${rest}`)
        assert.strictEqual(status, 200)
        assert.isAtMost(json.files.length, 2)
        found.push(...json.files.map((file: { readonly path: string }) => file.path))
        rest = json.next_cursor === undefined ? "" : `&cursor=${encodeURIComponent(json.next_cursor)}`
      } while (rest !== "")
      assert.deepStrictEqual(found, all)
      const { json: shallow } = yield* about("GET", "/files?depth=2")
      assert.deepStrictEqual(
        shallow.files.map((file: { readonly path: string }) => file.path),
        all.filter((path) => path !== "a/b/2")
      )
      for (const [query, error] of [
        ["limit=0", "limit must be an integer between 1 and 1000"],
        ["limit=1001", "limit must be an integer between 1 and 1000"],
        ["depth=65", "depth must be an integer between 1 and 64"],
        ["cursor=a", "cursor must be a next_cursor that this list returned"]
      ] as const) {
        const { json, status } = yield* about("GET", `/files?${query}`)
        assert.deepStrictEqual([status, json.error], [400, error])
      }
    }).pipe(Effect.provide(api))
  )

  it.effect("answers a missing file with 404 and refuses a file that is too large", () =>
    Effect.gen(function* () {
      const { fetch } = yield* WebApi
      const { about, key, sandboxId } = yield* holder
      for (const rest of ["/file?path=none", "/files?path=none"]) {
        const { json, status } = yield* about("GET", rest)
        assert.deepStrictEqual([status, json.error], [404, "File not found"])
      }
      const missing = yield* about("GET", "/file")
      assert.deepStrictEqual([missing.status, missing.json.error], [400, "path is required"])
      const chunk = new Uint8Array(1024 * 1024)
      let sent = 0
      const body = new ReadableStream({
        pull: (controller) => (sent++ < 51 ? controller.enqueue(chunk) : controller.close())
      })
      const large = yield* fetch(
        new Request(`http://castellan.test/api/sandboxes/${sandboxId}/file?path=large`, {
          method: "PUT",
          headers: { ...bytes, "x-api-key": key },
          body,
          duplex: "half"
        } as RequestInit)
      )
      const told: any = yield* Effect.promise(() => large.json())
      assert.deepStrictEqual([large.status, told.error], [413, "Request body must be at most 50 MiB"])
      assert.strictEqual((yield* about("GET", "/file?path=large")).status, 404)
    }).pipe(Effect.provide(api))
  )

  it.effect("gives a file the requested mode, and keeps the mode when the file is overwritten", () =>
    Effect.gen(function* () {
      const { about } = yield* holder
      assert.strictEqual((yield* about("PUT", "/file?path=run.sh&mode=755", "1", bytes)).status, 200)
      yield* about("PUT", "/file?path=run.sh", "2", bytes)
      yield* about("PUT", "/file?path=usual", "1", bytes)
      const { json } = yield* about("GET", "/files")
      assert.deepStrictEqual(
        json.files.map(({ mode, path }: { readonly mode: string; readonly path: string }) => [path, mode]),
        [
          ["run.sh", "0755"],
          ["usual", "0644"]
        ]
      )
      for (const mode of ["rwx", "8", "07777777", ""]) {
        const refused = yield* about("PUT", `/file?path=run.sh&mode=${mode}`, "x", bytes)
        assert.deepStrictEqual(
          [refused.status, refused.json.error],
          [400, "mode must be permissions in octal, such as 644 or 0755"]
        )
      }
    }).pipe(Effect.provide(api))
  )

  it.effect("refuses a file at a path where none can be", () =>
    Effect.gen(function* () {
      const { about } = yield* holder
      const reasons = {
        "none/": "It is named like a directory",
        ["n".repeat(256)]: "Its name is too long",
        [`${"n".repeat(256)}/below`]: "Its name is too long"
      }
      for (const [path, reason] of Object.entries(reasons)) {
        const { json, status } = yield* about("PUT", `/file?path=${path}`, "x", bytes)
        assert.deepStrictEqual(
          [status, json.code, json.error],
          [403, "file_refused", `The file can't be read or written there: ${reason}`]
        )
      }
      assert.strictEqual((yield* about("PUT", `/file?path=${"n".repeat(255)}`, "x", bytes)).status, 200)
    }).pipe(Effect.provide(api))
  )

  it.effect("is forked with its files and keeps running", () =>
    Effect.gen(function* () {
      const { ask } = yield* WebApi
      const { about, key, sandboxId } = yield* holder
      yield* about("PUT", "/file?path=shared", "from the first", bytes)
      const { json, status } = yield* about("POST", "/fork")
      assert.strictEqual(status, 200)
      const fork = json.sandbox.sandboxId
      assert.notStrictEqual(fork, sandboxId)
      assert.strictEqual(json.sandbox.sandboxStatus, "running")
      const read = yield* ask("GET", `/api/sandboxes/${fork}/file?path=shared`, { key })
      assert.strictEqual(read.text, "from the first")
      yield* ask("PUT", `/api/sandboxes/${fork}/file?path=shared`, { key, body: "changed", headers: bytes })
      assert.strictEqual((yield* about("GET", "/file?path=shared")).text, "from the first")
      assert.deepStrictEqual((yield* MemorySandboxes).snapshots(), [])
    }).pipe(Effect.provide(api))
  )

  it.effect("is extended", () =>
    Effect.gen(function* () {
      const { about } = yield* holder
      const { json } = yield* about("POST", "/extend", { ms: 60_000 })
      assert.isAbove(json.sandbox.timeout, 30 * 60_000)
      for (const ms of [0, -1, 1.5, "1", null, 24 * 60 * 60 * 1000 + 1]) {
        const refused = yield* about("POST", "/extend", { ms })
        assert.deepStrictEqual(
          [refused.status, refused.json.error],
          [400, "ms must be an integer between 1 and 86400000"]
        )
      }
    }).pipe(Effect.provide(api))
  )

  it.effect("is removed by a delete, stays listed as stopped, and may be deleted again", () =>
    Effect.gen(function* () {
      const { about } = yield* holder
      assert.deepStrictEqual((yield* about("DELETE", "")).json, { status: "success" })
      assert.deepStrictEqual((yield* MemorySandboxes).names(), [])
      assert.deepStrictEqual((yield* about("DELETE", "")).json, { status: "success" })
      const { json } = yield* about("GET", "")
      assert.deepStrictEqual([json.sandbox.sandboxStatus, json.sandbox.timeout], ["stopped", 0])
      for (const [method, rest, body] of [
        ["POST", "/commands", { command: "true" }],
        ["GET", "/files"],
        ["GET", "/file?path=a"],
        ["POST", "/extend", { ms: 1000 }]
      ] as const) {
        const answer = yield* about(method, rest, body)
        assert.deepStrictEqual([answer.status, answer.json.error], [409, "Sandbox is not running"], rest)
      }
    }).pipe(Effect.provide(api))
  )
})

describe("Limits of an account", () => {
  const few = (more: Parameters<typeof WebApi.layerWith>[0]) =>
    Layer.fresh(WebApi.layerWith(more)).pipe(Layer.provideMerge(quiet))

  it.effect("on live sandboxes count only live sandboxes of the account", () =>
    Effect.gen(function* () {
      const { ask, join } = yield* WebApi
      const [one, two] = [yield* join(), yield* join()]
      const create = (key: string) => ask("POST", "/api/sandboxes", { key })
      const answers = yield* Effect.all(
        Array.from({ length: 5 }, () => create(one.key)),
        { concurrency: 5 }
      )
      assert.deepStrictEqual(answers.map(({ status }) => status).sort(), [200, 200, 429, 429, 429])
      const refused = answers.find(({ status }) => status === 429)!
      assert.strictEqual(refused.json.code, "quota_exceeded")
      assert.match(refused.headers.get("retry-after") ?? "", /^\d+$/)
      assert.strictEqual((yield* create(two.key)).status, 200)
      const made = answers.find(({ status }) => status === 200)!.json.sandboxes[0].sandboxId
      yield* ask("DELETE", `/api/sandboxes/${made}`, { key: one.key })
      assert.strictEqual((yield* create(one.key)).status, 200)
    }).pipe(Effect.provide(few({ maxLiveSandboxes: 2 })))
  )

  it.effect("on running sessions are checked at an open, and do not count sandboxes", () =>
    Effect.gen(function* () {
      const { ask, join } = yield* WebApi
      const { key } = yield* join()
      const host = yield* RepoHost
      const repo = new Repo({ owner: host.supports.owner, name: RepoName.make("limited") })
      yield* host.ensure(repo)
      const body = { repoUrl: `${host.supports.url}/${repo.owner}/${repo.name}` }
      const open = ask("POST", "/api/sandbox", { key, body })
      assert.strictEqual((yield* ask("POST", "/api/sandboxes", { key })).status, 200)
      assert.strictEqual((yield* open).status, 200)
      const refused = yield* open
      assert.deepStrictEqual([refused.status, refused.json.code], [429, "quota_exceeded"])
      assert.match(refused.headers.get("retry-after") ?? "", /^\d+$/)
    }).pipe(Effect.provide(few({ maxLiveSandboxes: 1 })))
  )

  it.effect("on creations and requests per minute are answered with the time to wait", () =>
    Effect.gen(function* () {
      const { ask, join } = yield* WebApi
      const [one, two] = [yield* join(), yield* join()]
      const statuses: Array<number> = []
      for (let n = 0; n < 3; n++) statuses.push((yield* ask("POST", "/api/sandboxes", { key: one.key })).status)
      assert.deepStrictEqual(statuses, [200, 200, 429])
      assert.strictEqual((yield* ask("GET", "/api/sandboxes", { key: one.key })).status, 200)
      const over = yield* ask("GET", "/api/sandboxes", { key: one.key })
      assert.deepStrictEqual([over.status, over.json.code], [429, "rate_limited"])
      assert.match(over.headers.get("retry-after") ?? "", /^\d+$/)
      assert.isAbove(over.json.retryAfterMs, 0)
      assert.strictEqual((yield* ask("GET", "/api/sandboxes", { key: two.key })).status, 200)
    }).pipe(Effect.provide(few({ limits: { creates: 2, requests: 4 } })))
  )
})
