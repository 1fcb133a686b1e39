/** The script that finds imports which do not resolve and files which cannot be parsed. */
import { script } from "./Script.ts"

/**
 * `$1` is the path for the result. The project's own Vite parses files and styles and resolves imports, so the script
 * reports exactly what Vite would not find.
 */
export const checkImports = script(`
const told = process.argv[1]
const entriesOf = (directory) => {
  try { return fs.readdirSync(path.join(root, directory), { withFileTypes: true }) } catch { return [] }
}
const sources = (directory) => entriesOf(directory).flatMap((entry) => {
  const file = path.join(directory, entry.name)
  if (entry.isDirectory()) return ["node_modules", "dist", "build"].includes(entry.name) || entry.name.startsWith(".") ? [] : sources(file)
  return entry.isFile() && /[.](m?[jt]s|[jt]sx|css)$/.test(entry.name) && !entry.name.endsWith(".d.ts") ? [file] : []
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
// Vite parses only styles with imports; the word in the comment makes it parse all of them.
const ofStyles = async (vite, config, file, code) => {
  try {
    await vite.preprocessCSS(code + "\\n/* @import */", path.join(root, file), config)
    return []
  } catch (cause) {
    const line = cause.line || (cause.loc && cause.loc.line) || 1
    return [{ file, detail: file + ":" + line + ": " + (cause.reason || String(cause.message).split("\\n")[0]) }]
  }
}
const imports = async () => {
  try {
    const vite = await import("file://" + path.join(root, "node_modules", "vite", "dist", "node", "index.js"))
    const config = await vite.resolveConfig({ root, logLevel: "silent" }, "serve")
    const resolve = config.createResolver()
    const found = { looked: true, broken: [], files: [], packages: [] }
    const seen = new Set()
    for (const file of sources("").slice(0, 2000)) {
      const code = fs.readFileSync(path.join(root, file), "utf8")
      if (file.endsWith(".css")) {
        found.broken.push(...(await ofStyles(vite, config, file, code)))
        continue
      }
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
    const detail = "vite.config.ts: " + String((cause && cause.message) || cause).slice(0, 2000)
    return { looked: false, broken: [{ file: "vite.config.ts", detail }], files: [], packages: [] }
  }
}
imports().then((found) => {
  fs.writeFileSync(told + ".new", JSON.stringify(found))
  fs.renameSync(told + ".new", told)
}).then(() => process.exit())
`)
