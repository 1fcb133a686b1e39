/** The script that collects the facts for a diagnosis of an app: dev server, types, imports and disk space. */
import { Schema } from "effect"
import { checkImports } from "./checkImports.ts"
import { script } from "./Script.ts"

const timed = { durationMs: Schema.Int }

const Problem = Schema.Struct({ file: Schema.String, detail: Schema.String })

export const Findings = Schema.Struct({
  server: Schema.Struct({
    ...timed,
    /** The HTTP status of its page; null if it does not answer. */
    status: Schema.NullOr(Schema.Int),
    /** The end of its output. */
    said: Schema.String
  }),
  types: Schema.Struct({
    ...timed,
    /** The compiler's exit code; null if the project has no compiler or no tsconfig.json. */
    exitCode: Schema.NullOr(Schema.Int),
    output: Schema.String
  }),
  imports: Schema.Struct({
    ...timed,
    /** Whether the imports could be checked. */
    looked: Schema.Boolean,
    /** Files that cannot be parsed. */
    broken: Schema.Array(Problem),
    /** Imports of files that do not exist. */
    files: Schema.Array(Problem),
    /** Imports of packages that are not installed. */
    packages: Schema.Array(Problem)
  }),
  disk: Schema.Struct({
    ...timed,
    /** Free and total space in bytes. */
    free: Schema.Finite,
    size: Schema.Finite
  })
})
export type Findings = typeof Findings.Type

/**
 * `$1` is the port. The project's own compiler checks types. Imports are checked in a separate process, since that runs the
 * project's configuration, which may hang or exit.
 */
export const collectFindings = script(`
const port = Number(process.argv[1])
const importing = ${JSON.stringify(checkImports)}
const timed = async (look) => {
  const since = performance.now()
  const found = await look()
  return { ...found, durationMs: Math.round(performance.now() - since) }
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
const imports = async () => {
  const told = path.join("/tmp", "castellan-imports-" + process.pid + ".json")
  try {
    const { late, output } = await run(process.execPath, ["-e", importing, told], { deadline: 20000 })
    if (fs.existsSync(told)) return JSON.parse(fs.readFileSync(told, "utf8"))
    const detail = late ? "It is not read to its end within 20 s" : output.trim().slice(-2000) || "It ends the process that reads it"
    return { looked: false, broken: [{ file: "vite.config.ts", detail: "vite.config.ts: " + detail }], files: [], packages: [] }
  } finally {
    fs.rmSync(told, { force: true })
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
