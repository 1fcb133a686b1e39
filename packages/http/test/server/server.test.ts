import { assert, describe, it } from "@effect/vitest"
import { Effect, Schedule } from "effect"
import { once } from "node:events"
import { closeSync, openSync } from "node:fs"
import { type AddressInfo, createServer } from "node:net"
import { join } from "node:path"
import { dataDirectory, killed, listening, started, usedDirectory } from "./serverProcess.ts"

/** The output and exit code of a server that does not start. */
const refused = Effect.fnUntraced(function* (environment: Record<string, string>) {
  const { child, said } = yield* started(environment)
  if (child.exitCode === null) yield* Effect.promise(() => once(child, "exit"))
  return { code: child.exitCode, said: said().trim() }
})

const ask = (url: string, key: string, path: string, body?: unknown) =>
  Effect.promise(async () => {
    const headers = { "x-api-key": key, "content-type": "application/json" }
    const init = body === undefined ? { headers } : { method: "POST", headers, body: JSON.stringify(body) }
    const response = await fetch(`${url}${path}`, init)
    return { status: response.status, text: await response.text() }
  })

const freePort = Effect.promise(async () => {
  const server = createServer().listen(0, "127.0.0.1")
  await once(server, "listening")
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, "close")
  return port
})

const json = (answer: { readonly text: string }) => JSON.parse(answer.text)

describe("The server", () => {
  it.live("does not reveal where it keeps its data, in any response", () =>
    Effect.gen(function* () {
      const directory = yield* dataDirectory
      const server = yield* listening({ CASTELLAN_DATA_DIR: directory })
      const answers: Array<string> = []
      const about = (path: string, body?: unknown) =>
        Effect.map(ask(server.url, server.key!, path, body), ({ text }) => {
          answers.push(text)
          return text === "" ? {} : text.startsWith("{") ? JSON.parse(text) : text
        })
      const { runId } = yield* about("/api/sandboxes/setup", {})
      yield* about(`/api/tasks/runs/${runId}/logs`)
      const { github_repo, sandboxes } = yield* about("/api/sandboxes")
      assert.match(github_repo, /^local:/)
      const { session } = yield* about("/api/sessions", { repoUrl: github_repo })
      yield* about("/api/sandbox", { repoUrl: github_repo, sessionId: session.id })
      const script = "env; mount; git remote -v; cat .git/config; ls -la / .; cat /proc/self/mountinfo"
      const origin = yield* about("/api/sandboxes", { command: "sh", args: ["-c", "env"] })
      yield* about(`/api/tasks/runs/${origin.sandboxes[0].runId}/logs`)
      const run = { command: "sh", args: ["-c", script], wait: true }
      const { run: shown } = yield* about(`/api/sessions/${session.id}/commands`, run)
      assert.include(shown.output.stdout, `origin\t${github_repo} (fetch)`)
      // Paths in the list of mounts are a concern of the sandbox isolation, not of this test.
      answers.pop()
      assert.notInclude(shown.output.stdout.replaceAll(/^.* on .*$|^\d+ \d+ .*$/gm, ""), directory)
      for (const path of [
        "/api/sessions",
        "/api/tasks/runs",
        "/api/sandboxes",
        "/api/keys",
        "/ready",
        "/health",
        `/api/sandboxes/${sandboxes[0].sandboxId}/files?path=%2F&recursive=1`,
        `/api/sandboxes/${origin.sandboxes[0].sandboxId}/files?path=%2F&recursive=1`,
        `/api/sandboxes/${origin.sandboxes[0].sandboxId}/file?path=%2Fproc%2F1%2Fenviron`,
        `/api/sandboxes/${origin.sandboxes[0].sandboxId}/file?path=%2Fproc%2Fself%2Fcmdline`,
        `/api/sandboxes/${origin.sandboxes[0].sandboxId}/file?path=none`,
        "/api/sandboxes/file?path=none",
        "/api/sandbox/files",
        "/none"
      ]) {
        yield* about(path)
      }
      for (const answer of answers) assert.notInclude(answer, directory)
    }).pipe(Effect.scoped)
  )

  it.live("runs a command in a real sandbox, and works again after it was killed during one", () =>
    Effect.gen(function* () {
      const environment = { CASTELLAN_DATA_DIR: yield* dataDirectory }
      const first = yield* listening(environment)
      const key = first.key!
      const script = "echo before; sleep 2; echo after; exit 3"
      const body = { command: "sh", args: ["-c", script] }
      const made = json(yield* ask(first.url, key, "/api/sandboxes", body))
      const { runId, sandboxId } = made.sandboxes[0]
      yield* ask(first.url, key, "/api/sandboxes", { command: "sleep", args: ["600"] })
      yield* killed(first)

      const second = yield* listening(environment)
      assert.isUndefined(second.key, "the key is shown once")
      const log = yield* ask(second.url, key, `/api/tasks/runs/${runId}/logs`)
      assert.include(log.text, '"text":"before\\n')
      assert.include(log.text, 'after\\n"')
      assert.include(log.text, 'data: {"status":"COMPLETED","exitCode":3,"truncated":false}')
      const [run] = json(yield* ask(second.url, key, `/api/tasks/runs?runId=${runId}`)).runs
      assert.deepStrictEqual(run.output, { stdout: "before\nafter\n", stderr: "", exitCode: 3, truncated: false })
      const { sandboxes } = json(yield* ask(second.url, key, "/api/sandboxes"))
      assert.strictEqual(sandboxes.length, 2)
      for (const sandbox of sandboxes) assert.strictEqual(sandbox.sandboxStatus, "running")
      assert.include(
        sandboxes.map((sandbox: { sandboxId: string }) => sandbox.sandboxId),
        sandboxId
      )
      const runs = json(yield* ask(second.url, key, "/api/tasks/runs")).runs
      const executing = runs.find((run: { status: string }) => run.status === "EXECUTING")
      const headers = { "x-api-key": key }
      const cancel = `${second.url}/api/tasks/runs/${executing.id}/cancel`
      const canceled = yield* Effect.promise(async () => (await fetch(cancel, { method: "POST", headers })).json())
      assert.strictEqual((canceled as { run: { status: string } }).run.status, "CANCELED")
    }).pipe(Effect.scoped)
  )

  it.live("serves requests after the readers of its output have closed it, and shuts down normally", () =>
    Effect.gen(function* () {
      const CASTELLAN_DATA_DIR = yield* usedDirectory
      const server = yield* listening({ CASTELLAN_DATA_DIR })
      for (const pipe of [server.child.stdout!, server.child.stderr!]) pipe.destroy()
      for (const _ of [1, 2, 3]) {
        const { status } = yield* ask(server.url, server.key!, "/api/sandboxes", { command: "true" })
        assert.strictEqual(status, 200)
      }
      server.child.kill("SIGTERM")
      yield* Effect.promise(() => once(server.child, "exit"))
      assert.strictEqual(server.child.exitCode, 0)
    }).pipe(Effect.scoped)
  )

  it.live("serves requests while the disk of its log is full", () =>
    Effect.gen(function* () {
      const CASTELLAN_DATA_DIR = yield* usedDirectory
      const full = yield* Effect.acquireRelease(
        Effect.sync(() => openSync("/dev/full", "w")),
        (descriptor) => Effect.sync(() => closeSync(descriptor))
      )
      const url = `http://127.0.0.1:${yield* freePort}`
      const key = "key-of-the-admin-of-a-test"
      const environment = { CASTELLAN_DATA_DIR, CASTELLAN_ADMIN_KEY: key, PORT: new URL(url).port }
      const { child } = yield* started(environment, { stdio: ["ignore", full, full] })
      yield* Effect.promise(() => fetch(`${url}/health`)).pipe(
        Effect.catchDefect(() => Effect.fail("not yet")),
        Effect.retry({ schedule: Schedule.spaced("50 millis"), while: () => child.exitCode === null })
      )
      for (const _ of [1, 2, 3]) assert.strictEqual((yield* ask(url, key, "/api/keys")).status, 200)
    }).pipe(Effect.scoped)
  )

  it.live("locks its data directory, and reports the lock to a second process", () =>
    Effect.gen(function* () {
      const environment = { CASTELLAN_DATA_DIR: yield* usedDirectory }
      yield* listening(environment)
      const { code, said } = yield* refused(environment)
      assert.strictEqual(code, 1)
      assert.match(said, /^Castellan can't start\. .*postgres is in use by another Castellan server: /)
      assert.strictEqual(said.split("\n").length, 1)
    }).pipe(Effect.scoped)
  )

  it.live("refuses to start with an invalid setting, and names it in one sentence", () =>
    Effect.gen(function* () {
      const directory = yield* dataDirectory
      const wrong = {
        PORT: "eighty",
        HOST: "not a host",
        CASTELLAN_ADMIN_KEY: "short",
        CASTELLAN_SECRET: "xyz",
        CASTELLAN_PROVIDER: "moon",
        CASTELLAN_LOCAL_ISOLATION: "some",
        CASTELLAN_LOCAL_NETWORK: "all",
        CASTELLAN_NETWORK: '{"allow":[{"host":"10.0.0.1"}]}',
        CASTELLAN_EGRESS_HOSTS: "registry.example.com",
        DATABASE_URL: "mysql://user:hunter2@127.0.0.1/db",
        CASTELLAN_DATA_DIR: "/proc/nowhere"
      }
      const answers = yield* Effect.forEach(
        Object.entries(wrong),
        ([name, value]) =>
          Effect.map(refused({ CASTELLAN_DATA_DIR: join(directory, name), [name]: value }), (answer) => ({
            name,
            ...answer
          })),
        { concurrency: 2 }
      )
      for (const { code, name, said } of answers) {
        assert.strictEqual(code, 1, name)
        assert.include(said, name)
        assert.strictEqual(said.split("\n").length, 1, said)
        assert.notInclude(said, "hunter2")
      }
    }).pipe(Effect.scoped)
  )

  it.live("accepts the platform admin's key from its environment, and a changed one in its place", () =>
    Effect.gen(function* () {
      const directory = yield* usedDirectory
      const keys = ["first-admin-key-000000000", "second-admin-key-00000000"]
      for (const [index, key] of keys.entries()) {
        yield* Effect.gen(function* () {
          const server = yield* listening({ CASTELLAN_DATA_DIR: directory, CASTELLAN_ADMIN_KEY: key })
          assert.isUndefined(server.key)
          assert.notInclude(server.said(), key)
          for (const [other, candidate] of keys.entries()) {
            const { status } = yield* ask(server.url, candidate, "/api/keys")
            assert.strictEqual(status, other === index ? 200 : 401)
          }
        }).pipe(Effect.scoped)
      }
    }).pipe(Effect.scoped)
  )
})
