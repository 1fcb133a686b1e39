/** The script that requests the page's modules from the dev server to find what does not compile. */
import { Schema } from "effect"
import { script } from "./Script.ts"

export const CompileResult = Schema.Struct({
  /** Compile errors; `file` is relative to the project. */
  errors: Schema.Array(Schema.Struct({ file: Schema.String, message: Schema.String }))
})
export type CompileResult = typeof CompileResult.Type

/**
 * `$1` is the port, `$2` the paths of the changed files as JSON. The script requests the page's modules as a browser does,
 * following the imports in each response. The dev server answers a module that it cannot transform with status 500 and the
 * error that its overlay shows. It caches transformed modules until it notices a change, so the script requests a changed
 * file again until the response contains the new text. Changed files that the page does not load are only parsed:
 * requesting them would make them part of the page.
 */
export const compilePage = script(`
const port = Number(process.argv[1]), written = new Set(JSON.parse(process.argv[2]))
const until = performance.now() + 15000, most = { modules: 1000, errors: 20, message: 1000, body: 8 * 1024 * 1024 }
const errors = []
const report = (file, message) => {
  if (errors.length < most.errors) errors.push({ file, message: message.replaceAll(root + "/", "").trim().slice(0, most.message) })
}
const get = (url, accept) => new Promise((resolve) => {
  const request = http.get({ host: "127.0.0.1", port, path: url, headers: { accept }, timeout: 10000 }, (answer) => {
    let body = ""
    answer.setEncoding("utf8").on("data", (text) => { if (body.length < most.body) body += text })
    answer.on("close", () => resolve({ status: answer.statusCode, body }))
  })
  request.on("timeout", () => request.destroy()).on("error", () => resolve({ status: 0, body: "" }))
})
const fileOf = (url) => {
  try { return decodeURIComponent(url.replace(/[?#].*$/, "")).replace(/^[/]+/, "") } catch { return "" }
}
const within = (file) => typeof file === "string" && file.startsWith(root + path.sep) ? path.relative(root, file.replace(/[?#].*$/, "")) : undefined
const fail = (url, body) => {
  let error = {}
  try { error = JSON.parse(/const error = ({.*})$/m.exec(body)[1]) } catch {}
  const at = error.loc || {}
  const file = within(at.file) || within(error.id) || fileOf(url) || "index.html"
  const line = at.line > 0 ? "line " + at.line + ": " : ""
  report(file, line + (error.message || "It can't be compiled"))
}
/** Whether a response contains the current text of the file; true where that cannot be determined. */
const isFresh = (file, body) => {
  let text
  try { text = fs.readFileSync(path.join(root, file), "utf8") } catch { return true }
  const map = /sourceMappingURL=data:application[/]json;base64,([A-Za-z0-9+/=]+)\\s*$/.exec(body)
  try {
    if (map !== null) return JSON.parse(Buffer.from(map[1], "base64").toString()).sourcesContent.includes(text)
  } catch {}
  return body.includes(text.trim()) || body.includes(JSON.stringify(text.trim()).slice(1, -1))
}
const moduleAt = async (url) => {
  const file = fileOf(url), patience = Math.min(until, performance.now() + 2000)
  let answer = await get(url, "*/*")
  while (written.has(file) && answer.status === 200 && !isFresh(file, answer.body) && performance.now() < patience) {
    await pause(50)
    answer = await get(url, "*/*")
  }
  return answer
}
const isOurs = (url) => !/^[/](?:@|[/]|node_modules[/])/.test(url)
const importsIn = (code) => Array.from(code.matchAll(/\\b(?:import|from)\\s*[(]?\\s*"([/][^"\\\\]+)"/g), (match) => match[1])
const scriptsIn = (html) => Array.from(html.matchAll(/<(?:script\\b[^>]*?\\bsrc|link\\b[^>]*?\\bhref)\\s*=\\s*["']([/][^"']+)["']/gi), (match) => match[1].replaceAll("&amp;", "&"))
const isCode = (file) => /[.](?:[cm]?[jt]s|[jt]sx)$/.test(file) && !file.endsWith(".d.ts")
const visit = async () => {
  let page = await get("/", "text/html")
  // The dev server restarts after a change of its configuration.
  for (const patience = performance.now() + 5000; page.status === 0 && performance.now() < patience; ) {
    await pause(100)
    page = await get("/", "text/html")
  }
  if (page.status >= 500) fail("/", page.body)
  const seen = new Set(), files = new Set()
  let next = scriptsIn(page.body)
  while (next.length > 0 && performance.now() < until) {
    const urls = [...new Set(next)].filter((url) => isOurs(url) && !seen.has(url)).slice(0, most.modules - seen.size)
    next = []
    await Promise.all(urls.map(async (url) => {
      seen.add(url)
      files.add(fileOf(url))
      const { body, status } = await moduleAt(url)
      if (status === 500) fail(url, body)
      else if (status === 200) next.push(...importsIn(body.replace(/^[/][/]# sourceMappingURL=.*$/m, "")))
    }))
  }
  return files
}
const parse = async (files) => {
  if (files.length === 0) return
  const vite = await import("file://" + path.join(root, "node_modules", "vite", "dist", "node", "index.js")).catch(() => undefined)
  if (vite === undefined || typeof vite.parseSync !== "function") return
  for (const file of files) {
    let found = []
    try { found = vite.parseSync(path.basename(file), fs.readFileSync(path.join(root, file), "utf8")).errors } catch {}
    if (found.length > 0) report(file, found[0].message)
  }
}
main(async () => {
  const loaded = await visit()
  await parse([...written].filter((file) => isCode(file) && !loaded.has(file)))
  return { errors }
}).then(() => process.exit())
`)
