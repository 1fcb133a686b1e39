import { statSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { castellanOver, type Surroundings, untilDone } from "./castellanCommand.ts"

const castellan = (
  args: ReadonlyArray<string>,
  { fetch, ...around }: Surroundings & { readonly fetch: typeof globalThis.fetch }
) => castellanOver(fetch, args, { key: "cst_test", ...around })

interface Asked {
  readonly method: string
  readonly path: string
  readonly query: Record<string, string>
  readonly body: string
  readonly headers: Headers
}

/** A server that returns these responses in order, repeats the last one, and records the requests. */
const scripted = (...answers: ReadonlyArray<unknown>) => {
  const asked: Array<Asked> = []
  const fetch: typeof globalThis.fetch = async (input, init) => {
    const request = new Request(input, { ...init, ...({ duplex: "half" } as object) })
    const url = new URL(request.url)
    const query = Object.fromEntries(url.searchParams)
    const body = await request.text()
    asked.push({ method: request.method, path: url.pathname, query, body, headers: request.headers })
    const answer = answers[Math.min(asked.length, answers.length) - 1]
    if (answer instanceof Uint8Array) return new Response(new Uint8Array(answer))
    const status = answer === undefined ? 204 : 200
    const text = answer === undefined ? null : JSON.stringify(answer)
    return new Response(text, { status, headers: { "content-type": "application/json" } })
  }
  return { asked, around: { fetch } }
}

const id = "sbx_przh8wmwvnj7s0h78nq1"
const sandbox = { sandboxId: id, sandboxStatus: "running", timeout: 90_000, createdAt: "2026-11-21T06:21:30.311Z" }
const one = { status: "success", sandbox }

const run = (more: object = {}) => ({
  status: "success",
  runs: [{ id: "run_1", status: "EXECUTING", metadata: { logs: [] }, ...more }]
})
const log = (message: string) => ({ at: "2026-11-21T06:21:30.311Z", message })

describe("castellan sandbox", () => {
  it.effect("shows, forks, extends and stops a sandbox", () =>
    Effect.gen(function* () {
      const cases: ReadonlyArray<readonly [args: string, method: string, path: string, body: string]> = [
        [`get ${id}`, "GET", `/api/sandboxes/${id}`, ""],
        [`fork ${id}`, "POST", `/api/sandboxes/${id}/fork`, ""],
        [`extend ${id} 2h`, "POST", `/api/sandboxes/${id}/extend`, '{"ms":7200000}'],
        [`extend ${id} 90s`, "POST", `/api/sandboxes/${id}/extend`, '{"ms":90000}']
      ]
      for (const [args, method, path, body] of cases) {
        const { around, asked } = scripted(one)
        const said = yield* castellan(["sandboxes", ...args.split(" "), "--account", "acc"], around)
        assert.deepStrictEqual([said.exit, said.stderr], [0, ""])
        assert.match(said.stdout, new RegExp(`^sandbox +${id}\nstatus +running\ntime left +1 min 30 s\n`))
        const [first] = asked
        assert.deepStrictEqual(
          [first!.method, first!.path, first!.query, first!.body],
          [method, path, { account_id: "acc" }, body]
        )
      }
      const { around } = scripted(undefined)
      const stopped = yield* castellan(["sandboxes", "stop", id], around)
      assert.deepStrictEqual([stopped.exit, stopped.stdout], [0, `${id} is stopped\n`])
      const wrong = yield* castellan(["sandboxes", "extend", id, "soon"], around)
      assert.strictEqual(wrong.exit, 2)
      assert.include(wrong.stderr, "a duration such as 90s, 30m or 2h")
    })
  )

  it.effect("starts a command with --no-follow and returns at once", () =>
    Effect.gen(function* () {
      const { around, asked } = scripted({ status: "success", runId: "run_1" })
      const args = ["sandboxes", "run", id, "--no-follow", "--cwd", "src", "--", "npm", "test", "--", "--json", "a b"]
      const said = yield* castellan(args, around)
      assert.deepStrictEqual([said.exit, said.stdout], [0, "run_1\n"])
      assert.strictEqual(asked[0]!.path, `/api/sandboxes/${id}/commands`)
      const body = { command: "npm", args: ["test", "--", "--json", "a b"], cwd: "src" }
      assert.deepStrictEqual(JSON.parse(asked[0]!.body), body)
      assert.isNotNull(asked[0]!.headers.get("idempotency-key"))
    })
  )

  it.effect("creates one sandbox although the server is killed and restarted meanwhile", () =>
    Effect.gen(function* () {
      const gone = (code: string) => Promise.reject(Object.assign(new TypeError("fetch failed"), { cause: { code } }))
      const keys: Array<string | null> = []
      const answers = ["ECONNRESET", "ECONNREFUSED", "ECONNREFUSED", "ECONNREFUSED"]
      const { around } = scripted({ status: "success", sandboxes: [{ sandboxId: id }] })
      const fetch: typeof globalThis.fetch = (input, init) => {
        keys.push(new Headers(init?.headers).get("idempotency-key"))
        const code = answers[keys.length - 1]
        return code === undefined ? around.fetch(input, init) : gone(code)
      }
      const said = yield* untilDone(
        yield* Effect.forkChild(castellan(["sandboxes", "create", "--json"], { ...around, fetch }))
      )
      assert.strictEqual(said.exit, 0)
      assert.strictEqual(keys.length, 5)
      assert.strictEqual(new Set(keys).size, 1)

      const nobody: typeof globalThis.fetch = () => {
        keys.push(null)
        return gone("ECONNREFUSED")
      }
      keys.length = 0
      const never = yield* untilDone(
        yield* Effect.forkChild(castellan(["sandboxes", "create", "--json"], { ...around, fetch: nobody }))
      )
      assert.deepStrictEqual([never.exit, keys.length], [5, 3])
    })
  )

  it.effect("snapshots a sandbox, and says whether that stopped it", () =>
    Effect.gen(function* () {
      const { around } = scripted({ status: "success", snapshotId: "snap_1", expiresAt: null, stopped: true })
      const said = yield* castellan(["sandboxes", "snapshot", id], around)
      assert.deepStrictEqual([said.exit, said.stdout], [0, "snapshot  snap_1\nexpires   -\n"])
      assert.strictEqual(said.stderr, `castellan: the provider stopped ${id} to take the snapshot\n`)
    })
  )

  it.effect("lists files and strips control characters from their names", () =>
    Effect.gen(function* () {
      const modifiedAt = "2026-11-21T06:21:30.311Z"
      const files = [
        { path: "src", type: "directory", size: 0, mode: "0755", modifiedAt },
        { path: "latest", type: "link", size: 3, mode: "0777", target: "src", modifiedAt },
        { path: "evil\u001b[2J\n名前", type: "file", size: 1200, mode: "0600", modifiedAt }
      ]
      const { around, asked } = scripted({ status: "success", files })
      const said = yield* castellan(["sandboxes", "files", id, "a/b c", "-r"], around)
      assert.deepStrictEqual(asked[0]!.query, { path: "a/b c", recursive: "true", limit: "1000" })
      assert.deepStrictEqual(said.stdout.split("\n"), [
        "TYPE       MODE  SIZE  MODIFIED                  PATH",
        `directory  0755  0     ${modifiedAt}  src`,
        `link       0777  3     ${modifiedAt}  latest -> src`,
        `file       0600  1200  ${modifiedAt}  evil [2J 名前`,
        ""
      ])
    })
  )

  it.effect("downloads and uploads files byte for byte, with the permissions of local files", () =>
    Effect.gen(function* () {
      const bytes = new TextEncoder().encode("no newline at the end, 名前")
      const reading = scripted(bytes)
      const read = yield* castellan(["sandboxes", "read", id, "notes.txt"], reading.around)
      assert.deepStrictEqual([read.exit, read.stdout, read.stderr], [0, "no newline at the end, 名前", ""])
      assert.deepStrictEqual(reading.asked[0]!.query, { path: "notes.txt" })

      const writing = scripted({ status: "success", path: "notes.txt", size: 6 })
      const stdin = { ...writing.around, stdin: "hello\n" }
      const written = yield* castellan(["sandboxes", "write", id, "notes.txt"], stdin)
      assert.deepStrictEqual([written.exit, written.stdout], [0, "notes.txt, 6 bytes\n"])
      assert.deepStrictEqual([writing.asked[0]!.method, writing.asked[0]!.body], ["PUT", "hello\n"])

      const own = import.meta.filename
      yield* castellan(["sandboxes", "write", id, "notes.txt", own], writing.around)
      assert.include(writing.asked[1]!.body, "downloads and uploads files byte for byte")
      const permissions = (statSync(own).mode & 0o777).toString(8)
      assert.deepStrictEqual(writing.asked[1]!.query, { path: "notes.txt", mode: permissions })
      assert.deepStrictEqual(writing.asked[0]!.query, { path: "notes.txt" })
      const missing = yield* castellan(["sandboxes", "write", id, "notes.txt", `${own}.not`], writing.around)
      assert.deepStrictEqual([missing.exit, writing.asked.length], [2, 2])
      yield* castellan(["sandboxes", "write", id, "run.sh", own, "--mode", "755"], writing.around)
      assert.strictEqual(writing.asked[2]!.query["mode"], "755")
      assert.include(missing.stderr, "can't be read")
    })
  )
})

describe("castellan repo", () => {
  it.effect("sets a repository up, and prints each step once and then the result", () =>
    Effect.gen(function* () {
      const { around, asked } = scripted(
        { status: "success", runId: "run_1" },
        run({ status: "QUEUED" }),
        run({ metadata: { currentStep: "Making the sandbox", logs: [] } }),
        run({ metadata: { currentStep: "Pushing", logs: [log("Made sbx_1"), log("Made the repository")] } }),
        run({ metadata: { currentStep: "Pushing", logs: [log("Made sbx_1"), log("Made the repository")] } }),
        run({
          status: "COMPLETED",
          metadata: { currentStep: "Pushing", logs: [log("Made sbx_1"), log("Made the repository"), log("Done")] },
          output: { githubRepo: "https://github.com/o/r", snapshotId: "snap_1" }
        })
      )
      const setting = yield* Effect.forkChild(castellan(["sandboxes", "setup"], around))
      yield* TestClock.adjust("10 seconds")
      const said = yield* Fiber.join(setting)
      assert.deepStrictEqual([said.exit, said.stderr, asked.length], [0, "", 6])
      assert.deepStrictEqual(said.stdout.split("\n"), [
        "Making the sandbox",
        "Made sbx_1",
        "Made the repository",
        "Pushing",
        "Done",
        "repository  https://github.com/o/r",
        "snapshot    snap_1",
        ""
      ])
    })
  )

  it.effect("reports why a setup failed", () =>
    Effect.gen(function* () {
      const failed = run({ status: "FAILED", error: { message: "The repository has commits of someone else" } })
      const { around } = scripted({ status: "success", runId: "run_1" }, failed)
      const said = yield* castellan(["sandboxes", "setup"], around)
      assert.deepStrictEqual([said.exit, said.stdout], [1, ""])
      assert.strictEqual(said.stderr, "castellan: run_1 failed: The repository has commits of someone else\n")
    })
  )

  it.effect("shows the repository's tree and files", () =>
    Effect.gen(function* () {
      const filetree = [
        { path: "src", type: "tree", sha: "1" },
        { path: "src/main.ts", type: "blob", sha: "2", size: 3 }
      ]
      const tree = scripted({ status: "success", sandboxes: [], filetree })
      assert.strictEqual((yield* castellan(["sandboxes", "tree"], tree.around)).stdout, "src/\nsrc/main.ts\n")
      const none = scripted({ status: "success", sandboxes: [], filetree: null })
      const nothing = yield* castellan(["sandboxes", "tree"], none.around)
      assert.deepStrictEqual([nothing.exit, nothing.stdout], [0, ""])
      assert.include(nothing.stderr, "castellan sandboxes setup")

      const text = scripted({ status: "success", content: "as it is" })
      assert.strictEqual((yield* castellan(["sandboxes", "cat", "a b"], text.around)).stdout, "as it is")
      assert.deepStrictEqual(text.asked[0]!.query, { path: "a b" })
      const content = Buffer.from("名前").toString("base64")
      const coded = scripted({ status: "success", content, encoding: "base64" })
      assert.strictEqual((yield* castellan(["sandboxes", "cat", "x"], coded.around)).stdout, "名前")
      const json = yield* castellan(["sandboxes", "cat", "x", "--json"], coded.around)
      assert.strictEqual(JSON.parse(json.stdout).content, content)
    })
  )

  it.effect("requires --yes to delete a repository without a terminal", () =>
    Effect.gen(function* () {
      const deleted_snapshot = { account_id: "a", snapshot_id: "snap_1", github_repo: "https://github.com/o/r" }
      const { around, asked } = scripted({ status: "success", deleted_snapshot })
      const refused = yield* castellan(["sandboxes", "clear"], around)
      assert.deepStrictEqual([refused.exit, asked.length], [2, 0])
      assert.include(refused.stderr, "--yes")
      const cleared = yield* castellan(["sandboxes", "clear", "--yes", "--account", "acc"], around)
      assert.strictEqual(cleared.exit, 0)
      assert.match(cleared.stdout, /snap_1\n.*https:\/\/github.com\/o\/r/)
      assert.deepStrictEqual([asked[0]!.method, asked[0]!.path], ["DELETE", "/api/sandboxes"])
    })
  )
})
