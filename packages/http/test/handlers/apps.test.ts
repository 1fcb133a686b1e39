import { SandboxProvider, SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { MemorySandboxes } from "@castellan/testkit/fakes/sandbox/MemorySandbox.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Logger } from "effect"
import { TestClock } from "effect/testing"
import { WebApi } from "../WebApi.ts"

const quiet = Logger.layer([])
const api = Layer.fresh(WebApi.layer).pipe(Layer.provideMerge(quiet))

/** A new account, and requests with its key. */
const somebody = Effect.gen(function* () {
  const { ask, join } = yield* WebApi
  const { key } = yield* join()
  return {
    key,
    get: (path: string) => ask("GET", path, { key }),
    post: (path: string, body?: unknown) => ask("POST", path, { key, body })
  }
})

const builder = Effect.gen(function* () {
  const one = yield* somebody
  const { json, status } = yield* one.post("/api/sandbox/create")
  assert.strictEqual(status, 200)
  return { ...one, sandboxId: json.sandboxId as string, url: json.url as string }
})

const file = (path: string, content = "") => ({ path, content })

/** The events of a change, by type. */
const toldIn = (text: string): ReadonlyArray<any> =>
  text.split("\n").flatMap((line) => (line.startsWith("data: ") ? [JSON.parse(line.slice("data: ".length))] : []))

const noApp = { status: "error", success: false, error: "No active sandbox found", code: "sandbox_not_found" }

describe("Web apps", () => {
  it.effect("an app is created with any kind of empty body, and is active until the next one is created", () =>
    Effect.gen(function* () {
      const { ask } = yield* WebApi
      const { get, key, sandboxId, url } = yield* builder
      assert.strictEqual(url, `http://5173-${sandboxId}.localhost/`)
      assert.deepStrictEqual((yield* get("/api/sandbox/status")).json, { success: true, isAlive: true, sandboxId, url })
      const headers = { "content-type": "application/json", host: "127.0.0.1:4000" }
      const { json } = yield* ask("POST", "/api/sandbox/create", { key, body: "", headers })
      assert.strictEqual(json.url, `http://5173-${json.sandboxId}.localhost:4000/`)
      assert.notStrictEqual(json.sandboxId, sandboxId)
      assert.strictEqual((yield* get("/api/sandbox/status?sandboxId=")).json.sandboxId, json.sandboxId)
      assert.deepStrictEqual((yield* get(`/api/sandbox/status?sandboxId=${sandboxId}`)).json, noApp)
    }).pipe(Effect.provide(api))
  )

  it.effect("an app's URL is below the configured preview address", () =>
    Effect.gen(function* () {
      const { sandboxId, url } = yield* builder
      assert.strictEqual(url, `https://5173-${sandboxId}.preview.test:8443/`)
    }).pipe(Effect.provide(Layer.fresh(WebApi.layerWith({ previews: new URL("https://preview.test:8443") }))))
  )

  it.effect("a missing app and a foreign app get the same response, byte for byte", () =>
    Effect.gen(function* () {
      const { sandboxId } = yield* builder
      const { get, post } = yield* somebody
      for (const id of ["", sandboxId, "app-00000000000000000000", "../x", "x".repeat(500)]) {
        const query = `sandboxId=${encodeURIComponent(id)}`
        const answers = [
          yield* get(`/api/sandbox/status?${query}`),
          yield* get(`/api/sandbox/files?${query}`),
          yield* post("/api/sandbox/diagnostics", { sandboxId: id }),
          yield* post("/api/packages/install", { sandboxId: id, packages: ["react"] }),
          yield* post("/api/apply/stream", { sandboxId: id, files: [file("a.ts")] })
        ]
        for (const { json, status } of answers) assert.deepStrictEqual([status, json], [404, noApp])
      }
    }).pipe(Effect.provide(api))
  )

  it.effect("only its owner ends an app; without an id all of the owner's apps end, and both may be repeated", () =>
    Effect.gen(function* () {
      const one = yield* builder
      const two = yield* builder
      for (const body of [{ sandboxId: one.sandboxId }, { sandboxId: "app-00000000000000000000" }]) {
        assert.deepStrictEqual((yield* two.post("/api/sandbox/kill", body)).json, { success: true })
      }
      assert.isTrue((yield* one.get("/api/sandbox/status")).json.isAlive)
      for (const body of [undefined, {}, { sandboxId: null }, { sandboxId: "" }, { sandboxId: one.sandboxId }]) {
        assert.deepStrictEqual((yield* one.post("/api/sandbox/kill", body)).json, { success: true })
      }
      assert.deepStrictEqual((yield* one.get("/api/sandbox/status")).json, noApp)
      assert.isTrue((yield* two.get("/api/sandbox/status")).json.isAlive)
      const malformed = yield* two.post("/api/sandbox/kill", "{not json")
      assert.deepStrictEqual([malformed.status, malformed.json.error], [400, "Request body must be valid JSON"])
      assert.isTrue((yield* two.get("/api/sandbox/status")).json.isAlive)
    }).pipe(Effect.provide(api))
  )

  it.effect("an expired app is reported as not alive, without an error", () =>
    Effect.gen(function* () {
      const { get, sandboxId, url } = yield* builder
      yield* TestClock.adjust("31 minutes")
      const { json, status } = yield* get("/api/sandbox/status")
      assert.deepStrictEqual([status, json], [200, { success: true, isAlive: false, sandboxId, url }])
      const files = yield* get("/api/sandbox/files")
      assert.deepStrictEqual([files.status, files.json.error], [500, "Failed to retrieve file list"])
    }).pipe(Effect.provide(api))
  )

  it.effect("an app's files and their contents are listed without dependencies, build output and lock files", () =>
    Effect.gen(function* () {
      const { get, post, sandboxId } = yield* builder
      const provider = yield* SandboxProvider
      assert.strictEqual(provider.supports.name, "memory")
      const added = ["src/components/builder/X.tsx", "dist/x.js", "build/x.js", "package-lock.json", "z.ts"]
      yield* post("/api/apply/stream", { files: added.map((path) => file(path, `// ${path}`)) })
      const { json } = yield* get(`/api/sandbox/files?sandboxId=${sandboxId}`)
      assert.deepStrictEqual(Object.keys(json).toSorted(), ["files", "skipped", "success"])
      assert.deepStrictEqual(json.files, [
        ".gitignore",
        "index.html",
        "package.json",
        "src/App.tsx",
        "src/components/builder/X.tsx",
        "src/index.css",
        "src/main.tsx",
        "tsconfig.json",
        "vite.config.ts",
        "z.ts"
      ])
      const { json: page } = yield* get("/api/sandbox/files?limit=2&contents=1")
      assert.deepStrictEqual([page.files, Object.keys(page.contents)], [json.files.slice(0, 2), json.files.slice(0, 2)])
      const { json: second } = yield* get(`/api/sandbox/files?limit=2&cursor=${encodeURIComponent(page.next_cursor)}`)
      assert.deepStrictEqual(second.files, json.files.slice(2, 4))
      const { json: own } = yield* get("/api/sandbox/files?depth=1")
      assert.deepStrictEqual(
        own.files,
        json.files.filter((path: string) => !path.includes("/"))
      )
      const { json: full } = yield* get("/api/sandbox/files?contents=1")
      assert.strictEqual(full.contents["z.ts"], "// z.ts")
      assert.deepStrictEqual(Object.keys(full.contents), full.files)
      assert.strictEqual((yield* get("/api/sandbox/files?contents=yes")).status, 400)
    }).pipe(Effect.provide(api))
  )

  it.effect("packages are installed by name, and their versions returned", () =>
    Effect.gen(function* () {
      const { post } = yield* builder
      const { json, status } = yield* post("/api/packages/install", { packages: ["lodash@4.17.21", "@a/b", "@a/b"] })
      assert.deepStrictEqual(
        [status, json],
        [
          200,
          {
            success: true,
            installedPackages: ["lodash", "@a/b"],
            versions: { lodash: "4.17.21", "@a/b": "1.0.0" }
          }
        ]
      )
      const failed = yield* post("/api/packages/install", { packages: ["no-such-package"] })
      assert.deepStrictEqual(
        [failed.status, failed.json.code, failed.json.error],
        [400, "package_not_found", "Package no-such-package is not in the registry"]
      )
      assert.include(failed.json.detail, "404 Not Found - GET /no-such-package")
      assert.notInclude(failed.text, "registry.test")
      const away = yield* post("/api/packages/install", { packages: ["out-of-reach-package"] })
      assert.deepStrictEqual(
        [away.status, away.json.code, away.json.error],
        [500, "packages_not_installed", "Failed to install packages"]
      )
    }).pipe(Effect.provide(api))
  )

  it.effect("an invalid package name is refused, and nothing is installed", () =>
    Effect.gen(function* () {
      const { post } = yield* builder
      const before = (yield* MemorySandboxes).calls()
      const refused: ReadonlyArray<readonly [unknown, string]> = [
        ["{oops", "Request body must be valid JSON"],
        [{}, "Packages array is required"],
        [{ packages: null }, "Packages array is required"],
        [{ packages: [] }, "Packages array is required"],
        [{ packages: "react" }, "Packages array is required"],
        [{ packages: { react: "1" } }, "Packages array is required"],
        ...[
          "a; touch /tmp/x",
          "--global",
          "../x",
          "https://x/y.tgz",
          "git+ssh://x",
          "a/b",
          "",
          "x@file:..",
          "$(x)"
        ].map((name) => [{ packages: ["react", name] }, "Invalid package name"] as const),
        [{ packages: Array.from({ length: 51 }, (_, n) => `p${n}`) }, "At most 50 packages at once"]
      ]
      for (const [body, error] of refused) {
        const { json, status } = yield* post("/api/packages/install", body)
        assert.deepStrictEqual([status, json.error], [400, error], JSON.stringify(body))
      }
      assert.strictEqual((yield* MemorySandboxes).calls(), before)
    }).pipe(Effect.provide(api))
  )

  it.effect("a change streams an event for each step", () =>
    Effect.gen(function* () {
      const { post } = yield* builder
      const files = [file("src/App.tsx", "export default () => null\n"), file("src/new/x.ts", "1")]
      const { headers, status, text } = yield* post("/api/apply/stream", { files, packages: ["lodash"] })
      assert.deepStrictEqual([status, headers.get("content-type")], [200, "text/event-stream"])
      assert.notInclude(text, "event:")
      assert.deepStrictEqual(toldIn(text), [
        { type: "status", message: "Writing 2 files" },
        { type: "file", path: "src/App.tsx", status: "applied" },
        { type: "file", path: "src/new/x.ts", status: "applied" },
        { type: "status", message: "Installing 1 package" },
        { type: "package", name: "lodash", version: "1.0.0" },
        { type: "status", message: "Waiting for the page" },
        {
          type: "complete",
          appliedFiles: ["src/App.tsx", "src/new/x.ts"],
          installedPackages: ["lodash"],
          success: true,
          errors: []
        }
      ])
    }).pipe(Effect.provide(api))
  )

  it.effect("a change reports each step that failed", () =>
    Effect.gen(function* () {
      const { get, post } = yield* builder
      const packages = ["no-such-package"]
      const noPackage = toldIn((yield* post("/api/apply/stream", { files: [file("a.ts")], packages })).text)
      const last = noPackage.at(-1)
      assert.deepStrictEqual([last.appliedFiles, last.installedPackages, last.success], [["a.ts"], [], false])
      assert.match(last.errors[0], /^The packages were not installed: .*no-such-package/)
      assert.strictEqual(noPackage.find(({ type }) => type === "error").message, last.errors[0])
      const files = [file("b.ts"), file("src")]
      const refused = toldIn((yield* post("/api/apply/stream", { files, packages: ["lodash"] })).text).at(-1)
      assert.deepStrictEqual(refused, {
        type: "complete",
        appliedFiles: [],
        installedPackages: [],
        success: false,
        errors: ["src: A directory has that name"]
      })
      assert.notInclude((yield* get("/api/sandbox/files")).json.files, "b.ts")
    }).pipe(Effect.provide(api))
  )

  it.effect("the path of a change is normalized", () =>
    Effect.gen(function* () {
      const { get, post } = yield* builder
      const files = [file("./src/x.ts", "1"), file("src//y.ts", "2"), file("src/./z.ts/.", "3")]
      const { status, text } = yield* post("/api/apply/stream", { files })
      assert.strictEqual(status, 200)
      assert.deepStrictEqual(toldIn(text).at(-1).appliedFiles, ["src/x.ts", "src/y.ts", "src/z.ts"])
      const { files: listed } = (yield* get("/api/sandbox/files")).json
      for (const path of ["src/x.ts", "src/y.ts", "src/z.ts"]) assert.include(listed, path)
    }).pipe(Effect.provide(api))
  )

  it.effect("a change is no success while the dev server can't compile the page", () =>
    Effect.gen(function* () {
      const { post } = yield* builder
      const apply = (content: string) =>
        Effect.map(post("/api/apply/stream", { files: [file("src/App.tsx", content)] }), ({ text }) => toldIn(text))
      const broken = yield* apply("export const x = {{{\n")
      const last = broken.at(-1)
      assert.deepStrictEqual([last.appliedFiles, last.success], [["src/App.tsx"], false])
      assert.match(last.errors[0], /^src\/App\.tsx: .*Expression expected/)
      assert.strictEqual(broken.find(({ type }) => type === "error").message, last.errors[0])
      assert.match((yield* apply('import "./gone.ts"\n')).at(-1).errors[0], /^src\/App\.tsx: .*\.\/gone\.ts/)
      const mended = (yield* apply("export default () => null\n")).at(-1)
      assert.deepStrictEqual([mended.success, mended.errors], [true, []])
    }).pipe(Effect.provide(api))
  )

  it.effect("a path outside of the project is refused, and nothing is written", () =>
    Effect.gen(function* () {
      const { get, post } = yield* builder
      const before = (yield* get("/api/sandbox/files")).json
      const paths = ["../x", "/etc/passwd", "src/../../x", "a\0b", "", "node_modules/x", ".git/config", "x/", "C:\\x"]
      for (const path of paths) {
        const { json, status } = yield* post("/api/apply/stream", { files: [file("good.ts"), file(path)] })
        assert.deepStrictEqual([status, json.code], [400, "invalid_request"], path)
        assert.match(json.error, /^files\.1\.path (must|is)/, path)
      }
      const many = Array.from({ length: 10_000 }, (_, n) => file(`f${n}.ts`))
      for (const files of [undefined, [], many, "src", [{}], [{ path: "x" }], [{ path: "x", content: 7 }]]) {
        assert.strictEqual(
          (yield* post("/api/apply/stream", { files })).status,
          400,
          JSON.stringify(files)?.slice(0, 50)
        )
      }
      const large = yield* post("/api/apply/stream", { files: [file("large.ts", "x".repeat(20 * 1024 * 1024))] })
      assert.deepStrictEqual([large.status, large.json.error], [413, "Request body must be at most 10 MiB"])
      assert.deepStrictEqual((yield* get("/api/sandbox/files")).json, before)
      const most = yield* post("/api/apply/stream", { files: [file("most.ts", "x".repeat(9 * 1024 * 1024))] })
      assert.isTrue(toldIn(most.text).at(-1).success)
    }).pipe(Effect.provide(api))
  )

  it.effect("a diagnosis passes, or reports what is wrong", () =>
    Effect.gen(function* () {
      const { post } = yield* builder
      const well = (yield* post("/api/sandbox/diagnostics")).json
      assert.deepStrictEqual([well.success, well.output, well.checks.length], [true, "", 5])
      for (const check of well.checks)
        assert.deepStrictEqual(Object.keys(check), ["name", "ok", "detail", "durationMs"])
      const broken: ReadonlyArray<readonly [string, string, string]> = [
        ['import "./missing.ts"\n', "missing_imports", "./missing.ts"],
        ['import x from "not-there"\n', "missing_imports", "not-there"],
        ["export const x = {{{\n", "type_check", "src/App.tsx"]
      ]
      for (const [content, name, word] of broken) {
        yield* post("/api/apply/stream", { files: [file("src/App.tsx", content)] })
        const { json, status } = yield* post("/api/sandbox/diagnostics", { sandboxId: null })
        assert.deepStrictEqual([status, json.success], [200, false])
        assert.isFalse(json.checks.find((check: any) => check.name === name).ok)
        assert.include(json.output, word)
      }
      yield* TestClock.adjust("1 hour")
      const asleep = (yield* post("/api/sandbox/diagnostics")).json
      assert.deepStrictEqual([asleep.success, asleep.output], [false, "The sandbox is not running"])
    }).pipe(Effect.provide(api))
  )

  it.effect("a failed create is an error, and the previous app stays active", () =>
    Effect.gen(function* () {
      const { get, post, sandboxId } = yield* builder
      const sandboxes = yield* MemorySandboxes
      for (const id of sandboxes.snapshots()) yield* (yield* SandboxProvider).removeSnapshot(id)
      const refused = yield* post("/api/sandbox/create")
      assert.deepStrictEqual([refused.status, refused.json.error], [500, "Failed to create sandbox"])
      assert.strictEqual(refused.json.reasonCode, "provider_unavailable")
      assert.isNumber(refused.json.retryAfterMs)
      const status = yield* get("/api/sandbox/status")
      assert.deepStrictEqual([status.json.sandboxId, status.json.isAlive], [sandboxId, true])
      assert.deepStrictEqual(sandboxes.names(), [SandboxName.make(sandboxId)])
    }).pipe(
      Effect.provide(
        Layer.fresh(
          WebApi.over(
            Layer.effect(
              SandboxProvider,
              Effect.map(SandboxProvider, (real) => {
                let made = 0
                const full = new SandboxUnavailable({ operation: "create", retryable: true })
                return { ...real, create: (spec) => (made++ < 2 ? real.create(spec) : Effect.fail(full)) }
              })
            )
          )
        ).pipe(Layer.provideMerge(quiet))
      )
    )
  )
})
