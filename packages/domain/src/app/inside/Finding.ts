/** Finding out what a person would see of an app that does not work. */
import { Schema } from "effect"
import { script } from "./Script.ts"

const timed = { durationMs: Schema.Int }

const Problem = Schema.Struct({ file: Schema.String, detail: Schema.String })

export const Findings = Schema.Struct({
  server: Schema.Struct({
    ...timed,
    /** The status of its page; null if it does not answer. */
    status: Schema.NullOr(Schema.Int),
    /** What it printed last. */
    said: Schema.String
  }),
  types: Schema.Struct({
    ...timed,
    /** How the compiler ended; null where the project has none, or nothing for it. */
    exitCode: Schema.NullOr(Schema.Int),
    output: Schema.String
  }),
  imports: Schema.Struct({
    ...timed,
    /** Whether they could be looked for. */
    looked: Schema.Boolean,
    /** Files that can't be read as what they are named. */
    broken: Schema.Array(Problem),
    /** Imports of files that are not there. */
    files: Schema.Array(Problem),
    /** Imports of packages that are not installed. */
    packages: Schema.Array(Problem)
  }),
  disk: Schema.Struct({
    ...timed,
    /** Bytes that can still be written, and that there are. */
    free: Schema.Finite,
    size: Schema.Finite
  })
})
export type Findings = typeof Findings.Type

/**
 * `$1` is the port. Imports are found and looked up by the project's own Vite, so that what it would not find is what is
 * reported; types by the project's own compiler.
 */
export const finding = script(`
const port = Number(process.argv[1])
const timed = async (look) => {
  const since = Date.now()
  const found = await look()
  return { ...found, durationMs: Date.now() - since }
}
const page = () => new Promise((resolve) => {
  const request = http.get({ host: "127.0.0.1", port, path: "/", headers: { accept: "text/html" }, timeout: 5000 }, (answer) => {
    answer.resume()
    resolve(answer.statusCode)
  })
  request.on("timeout", () => request.destroy())
  request.on("error", () => resolve(null))
})
const server = async () => {
  const [status, kept] = await Promise.all([page(), ask("said")])
  return { status, said: kept === undefined ? "" : kept.said }
}
const types = async () => {
  const compiler = path.join("node_modules", "typescript", "bin", "tsc")
  if (!fs.existsSync(compiler) || !fs.existsSync("tsconfig.json")) return { exitCode: null, output: "" }
  const { code, late, output } = await run(process.execPath, [compiler, "--noEmit", "--pretty", "false", "-p", "."], { deadline: 60000 })
  return { exitCode: code, output: late ? "It took too long" : output.slice(0, 16384) }
}
const sources = (directory) => fs.readdirSync(path.join(root, directory), { withFileTypes: true }).flatMap((entry) => {
  const file = path.join(directory, entry.name)
  if (entry.isDirectory()) return ["node_modules", "dist", "build"].includes(entry.name) || entry.name.startsWith(".") ? [] : sources(file)
  return entry.isFile() && /[.](m?[jt]s|[jt]sx)$/.test(entry.name) && !entry.name.endsWith(".d.ts") ? [file] : []
})
const at = (code, offset) => code.slice(0, offset).split("\\n").length
const importsOf = (vite, file, code) => {
  const { errors, module, program } = vite.parseSync(path.basename(file), code)
  if (errors.length > 0) {
    const [{ labels, message }] = errors
    const line = labels && labels[0] ? at(code, labels[0].start) : 1
    return { broken: [{ file, detail: file + ":" + line + ": " + message }], wanted: [] }
  }
  const isValue = (entries) => entries.length === 0 || entries.some((entry) => !entry.isType)
  const wanted = [
    ...module.staticImports.filter(({ entries }) => isValue(entries)).map(({ moduleRequest }) => moduleRequest),
    ...module.staticExports.flatMap(({ entries }) => entries).filter((entry) => !entry.isType).flatMap(({ moduleRequest }) => moduleRequest ? [moduleRequest] : []),
    ...module.dynamicImports.map(({ moduleRequest: { end, start } }) => ({ start, value: /^(["'])(.*)\\1$/.exec(code.slice(start, end))?.[2] }))
  ]
  return { broken: [], wanted: wanted.filter(({ value }) => value !== undefined) }
}
const nameOf = (request) => request.split("/").slice(0, request.startsWith("@") ? 2 : 1).join("/")
const imports = async () => {
  const nothing = { looked: false, broken: [], files: [], packages: [] }
  try {
    const vite = await import("file://" + path.join(root, "node_modules", "vite", "dist", "node", "index.js"))
    const config = await vite.resolveConfig({ root, logLevel: "silent" }, "serve")
    const resolve = config.createResolver()
    const found = { looked: true, broken: [], files: [], packages: [] }
    const seen = new Set()
    for (const file of sources("").slice(0, 2000)) {
      const code = fs.readFileSync(path.join(root, file), "utf8")
      const { broken, wanted } = importsOf(vite, file, code)
      found.broken.push(...broken)
      for (const { start, value } of wanted) {
        const key = file + " " + value
        if (seen.has(key) || /^(node:|data:|https?:|virtual:|\\0)/.test(value)) continue
        seen.add(key)
        const request = value.replace(/[?#].*$/, "")
        const target = await Promise.resolve(resolve(request, path.join(root, file))).catch(() => undefined)
        const there = target !== undefined && (!path.isAbsolute(target) || fs.existsSync(target.replace(/[?#].*$/, "")))
        if (there && !target.startsWith("__vite-optional-peer-dep")) continue
        if (request.startsWith("/") && fs.existsSync(path.join(config.publicDir || root, request))) continue
        const detail = file + ":" + at(code, start) + " imports " + JSON.stringify(value)
        if (/^[./]/.test(request)) found.files.push({ file, detail: detail + ", and there is no such file" })
        else found.packages.push({ file, detail: detail + ", and " + nameOf(request) + " is not installed" })
      }
    }
    return found
  } catch (cause) {
    return { ...nothing, broken: [{ file: "vite.config.ts", detail: String(cause && cause.message).slice(0, 2000) }] }
  }
}
const disk = async () => {
  const { bavail, blocks, bsize } = fs.statfsSync(root)
  return { free: bavail * bsize, size: blocks * bsize }
}
main(async () => {
  const [one, two, three, four] = await Promise.all([timed(server), timed(types), timed(imports), timed(disk)])
  return { server: one, types: two, imports: three, disk: four }
}).then(() => process.exit())
`)
