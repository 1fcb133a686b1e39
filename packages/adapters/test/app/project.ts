/** Projects in real sandboxes, with a minimal dev server in place of Vite. */
import { GuestScripts } from "@castellan/domain/app/guest/GuestScripts.ts"
import { ProjectPath } from "@castellan/domain/app/project/ProjectPath.ts"
import { Port } from "@castellan/domain/sandbox/Port.ts"
import { SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Effect, Layer, Option, Stream } from "effect"
import { createSandbox, withSandboxes } from "../local/sandboxes.ts"
import { localProvider } from "../local/temporary.ts"

export const world = GuestScripts.layer.pipe(Layer.provideMerge(withSandboxes(localProvider())))

export const port = Port.make(5173)

/** Answers with its process id; exits or hangs if its configuration says so. */
const server = `
const fs = require("node:fs"), http = require("node:http")
const config = fs.existsSync("vite.config.ts") ? fs.readFileSync("vite.config.ts", "utf8") : ""
while (config.includes("while (true)"));
if (config.includes("throw")) {
  console.error("failed to load config")
  process.exit(1)
}
const port = Number(process.argv[process.argv.indexOf("--port") + 1])
http.createServer((_, answer) => answer.end(String(process.pid))).listen(port, "127.0.0.1")
`

/** Serves modules like Vite: broken ones with the overlay's error, and changed ones from a cache at first. */
const modules = `
const fs = require("node:fs"), http = require("node:http")
const port = Number(process.argv[process.argv.indexOf("--port") + 1])
const cache = new Map()
const textOf = (file) => {
  const known = cache.get(file)
  if (known !== undefined && known.asked < 3) {
    known.asked++
    return known.text
  }
  const text = fs.readFileSync(file, "utf8")
  if (!text.includes("{{{")) cache.set(file, { text, asked: 0 })
  return text
}
http.createServer(({ url }, answer) => {
  const file = process.cwd() + url.replace(/[?].*/, "")
  if (url === "/") return answer.end('<script type="module" src="/src/main.ts?v=1"></script><script src="/@vite/client"></script>')
  const text = textOf(file)
  if (!text.includes("{{{")) return answer.end(text.replace(/"[.][/]/g, '"/src/'))
  const error = { message: "Unexpected token in " + file, id: file, loc: { file, line: 7 }, stack: "secret" }
  answer.writeHead(500).end("<script>\\n  const error = " + JSON.stringify(error) + "\\n</script>")
}).listen(port, "127.0.0.1")
`

const parser = `export const parseSync = (_, code) => ({ errors: code.includes("{{{") ? [{ message: "Unexpected token" }] : [] })`

/** The files of a dev server that compiles, and of what it parses with. */
export const compilingServer = {
  "node_modules/vite/bin/vite.js": modules,
  "node_modules/vite/dist/node/index.js": parser
}

/** A sandbox with a project in it. */
export const project = Effect.fnUntraced(function* (files: Readonly<Record<string, string>> = {}) {
  const name = yield* createSandbox({ ports: [port] })
  const provider = yield* SandboxProvider
  const all = { "package.json": "{}", "node_modules/vite/bin/vite.js": server, ...files }
  for (const [path, text] of Object.entries(all)) {
    yield* provider.writeFile(name, SandboxPath.make(`app/${path}`), Stream.make(new TextEncoder().encode(text)))
  }
  return { name, sandbox: Option.getOrThrow(yield* provider.find(name)) }
})

export const apply = (name: SandboxName, files: Readonly<Record<string, string>>) =>
  Effect.flatMap(GuestScripts, (guest) =>
    guest.apply(
      name,
      Object.entries(files).map(([path, content]) => ({ path: ProjectPath.make(path), content }))
    )
  )
