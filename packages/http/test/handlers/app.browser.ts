import { scaffold } from "@castellan/domain/app/project/Scaffold.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { chromium, type Page } from "playwright-core"
import { dataDirectory, killed, listening } from "../server/serverProcess.ts"

/** A new browser for a test. */
const browser = Effect.acquireRelease(
  Effect.promise(() =>
    chromium.launch({ executablePath: process.env["CHROMIUM"]!, args: ["--no-sandbox", "--disable-dev-shm-usage"] })
  ),
  (browser) => Effect.promise(() => browser.close())
)

interface Server {
  readonly url: string
  readonly key?: string | undefined
}

const asking = ({ key = "", url }: Server) => {
  const ask = (method: string, path: string, body?: unknown) =>
    Effect.promise(async () => {
      const response = await fetch(`${url}${path}`, {
        method,
        headers: { "x-api-key": key, "content-type": "application/json" },
        ...(body === undefined ? {} : { body: JSON.stringify(body) })
      })
      return { status: response.status, text: await response.text() }
    })
  const json = (method: string, path: string, body?: unknown) =>
    Effect.map(ask(method, path, body), ({ text }) => JSON.parse(text))
  const apply = Effect.fnUntraced(function* (files: Readonly<Record<string, string>>) {
    const all = Object.entries(files).map(([path, content]) => ({ path, content }))
    const { text } = yield* ask("POST", "/api/apply/stream", { files: all })
    const last = text.trim().split("\n").at(-1)!
    return JSON.parse(last.slice("data: ".length))
  })
  return { json, apply }
}

/** Completes once the page shows the text. The browser polls. */
const shows = (page: Page, text: string) =>
  Effect.promise(() => page.getByText(text).first().waitFor({ timeout: 30_000 }))

const app = (heading: string, above = "") => ({
  "src/App.tsx": `${above}export default function App() {
  return <h1>${heading}</h1>
}
`
})

describe("An app in a browser", () => {
  it.live(
    "is shown from its scaffold to its end: changed in place, given a package, broken, diagnosed and killed",
    () =>
      Effect.gen(function* () {
        const directory = yield* dataDirectory
        const server = yield* listening({ CASTELLAN_DATA_DIR: directory })
        const { apply, json } = asking(server)
        const { sandboxId, success, url } = yield* json("POST", "/api/sandbox/create")
        assert.isTrue(success)

        const chrome = yield* browser
        const page = yield* Effect.promise(() => chrome.newPage())
        yield* Effect.promise(() => page.goto(url))
        yield* shows(page, "It works")

        // A reload would lose this.
        yield* Effect.promise(() => page.evaluate("window.stays = true"))
        assert.isTrue((yield* apply(app("Changed in place"))).success)
        yield* shows(page, "Changed in place")
        assert.isTrue(yield* Effect.promise(() => page.evaluate("window.stays === true")))

        const installed = yield* json("POST", "/api/packages/install", { packages: ["clsx"] })
        assert.deepStrictEqual(installed.installedPackages, ["clsx"])
        yield* apply(app('{clsx("With", "a package")}', 'import { clsx } from "clsx"\n'))
        yield* shows(page, "With a package")
        assert.isTrue((yield* json("POST", "/api/sandbox/diagnostics")).success)

        const uncompiled = yield* apply(app("{", 'import gone from "./gone.tsx"\nimport none from "not-installed"\n'))
        assert.isFalse(uncompiled.success)
        assert.match(uncompiled.errors[0], /^src\/App\.tsx: /)
        const broken = yield* json("POST", "/api/sandbox/diagnostics")
        assert.isFalse(broken.success)
        assert.include(broken.output, "src/App.tsx")
        yield* apply(app("Mended", 'import none from "not-installed"\n'))
        assert.include((yield* json("POST", "/api/sandbox/diagnostics")).output, "not-installed is not installed")
        yield* apply({ ...app("Mended"), "src/more.css": "body {{ color: red }" })
        assert.include((yield* json("POST", "/api/sandbox/diagnostics")).output, "src/more.css:1")
        yield* apply({ "src/more.css": "", "vite.config.ts": "process.exit(7)" })
        assert.include((yield* json("POST", "/api/sandbox/diagnostics")).output, "vite.config.ts: ")
        assert.isTrue((yield* apply({ "vite.config.ts": scaffold["vite.config.ts"]! })).success)
        yield* shows(page, "Mended")

        yield* killed(server)
        const next = yield* listening({ CASTELLAN_DATA_DIR: directory, PORT: new URL(server.url).port })
        const again = asking({ url: next.url, key: server.key })
        const status = yield* again.json("GET", "/api/sandbox/status")
        assert.deepStrictEqual(status, { success: true, isAlive: true, sandboxId, url })
        yield* Effect.promise(() => page.goto(url))
        yield* shows(page, "Mended")

        assert.isTrue((yield* again.json("POST", "/api/sandbox/kill", { sandboxId })).success)
        yield* Effect.promise(() => page.goto(url))
        yield* shows(page, "This app has stopped")
      }).pipe(Effect.scoped),
    180_000
  )
})
