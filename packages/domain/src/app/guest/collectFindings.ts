/** Finding out what a person would see of an app that does not work. */
import { Schema } from "effect"
import { checkImports } from "./checkImports.ts"
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
 * `$1` is the port. Types are looked at by the project's own compiler, imports in a process of their own: that runs the
 * project's configuration, which may hang or end it.
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
