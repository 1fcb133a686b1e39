/** Runs the scripts of an app's sandbox in memory, without a shell or npm. */
import { type AppliedFiles, applyFiles } from "@castellan/domain/app/guest/applyFiles.ts"
import { type CompileResult, compilePage } from "@castellan/domain/app/guest/compilePage.ts"
import { type Findings, collectFindings } from "@castellan/domain/app/guest/collectFindings.ts"
import { type InstallResult, installPackages } from "@castellan/domain/app/guest/installPackages.ts"
import { devServerSupervisor } from "@castellan/domain/app/guest/DevServerSupervisor.ts"
import { limits, type Line, listFiles } from "@castellan/domain/app/guest/listFiles.ts"
import { type RestartResult, restartDevServer } from "@castellan/domain/app/guest/restartDevServer.ts"
import { type MemoryFiles, resolve } from "./MemoryFiles.ts"

/** The context of a script: the files of its sandbox, its working directory and the time. */
export interface ScriptContext {
  readonly files: MemoryFiles
  readonly cwd: string
  readonly now: number
}

const utf8 = new TextEncoder()

const textOf = ({ cwd, files }: ScriptContext, path: string): string | undefined => {
  const bytes = files.read(resolve(cwd, path))
  return bytes === undefined ? undefined : new TextDecoder().decode(bytes)
}

const write = ({ cwd, files, now }: ScriptContext, path: string, text: string): void =>
  files.write(resolve(cwd, path), utf8.encode(text), now)

const leftOut =
  /(^|\/)(node_modules|\.git|dist|build|package-lock\.json|npm-shrinkwrap\.json|yarn\.lock|pnpm-lock\.yaml|bun\.lockb?)(\/|$)/

const pathsOf = ({ cwd, files }: ScriptContext): ReadonlyArray<string> =>
  files
    .list(cwd, Number.MAX_SAFE_INTEGER)
    .flatMap(({ path, type }) => (type === "file" && !leftOut.test(path) ? [path] : []))

/** The lines of a file listing. */
const list = (context: ScriptContext, [wanted, limit, after = "", levels]: ReadonlyArray<string>): string => {
  const isWithin = (path: string) => levels === "" || path.split("/").length <= Number(levels)
  const all = pathsOf(context).filter((path) => path > after && isWithin(path))
  const files = all.slice(0, Number(limit))
  const lines: Array<Line> = all.length > files.length ? [{ next: files.at(-1)! }] : []
  for (const file of files) {
    const text = textOf(context, file)!
    const reason =
      text.length > limits.file ? "It is larger than 256 KiB" : text.includes("\0") ? "It is not text" : undefined
    if (wanted !== "contents") lines.push({ file })
    else if (reason === undefined) lines.push({ file, text })
    else lines.push({ file }, { skipped: { path: file, reason } })
  }
  return lines.map((line) => `${JSON.stringify(line)}\n`).join("")
}

const apply = (context: ScriptContext, [bundle]: ReadonlyArray<string>): AppliedFiles => {
  const wanted = JSON.parse(textOf(context, bundle!)!) as ReadonlyArray<{
    readonly path: string
    readonly content: string
  }>
  context.files.remove(bundle!)
  const failed = wanted.flatMap(({ path }) => {
    const at = resolve(context.cwd, path)
    if (context.files.isDangling(at)) return [{ path, reason: "A link on the way leads nowhere" }]
    return context.files.canHoldFile(at) ? [] : [{ path, reason: "A directory has that name" }]
  })
  if (failed.length > 0) return { applied: [], failed }
  for (const { content, path } of wanted) write(context, path, content)
  return { applied: [...new Set(wanted.map(({ path }) => path))], failed: [] }
}

interface Manifest {
  readonly dependencies?: Record<string, string>
  readonly devDependencies?: Record<string, string>
}

const manifestOf = (context: ScriptContext): Manifest => JSON.parse(textOf(context, "package.json") ?? "{}")

/** A package name that the registry does not know. */
const isUnknown = (name: string): boolean => name.startsWith("no-such-")

/** A package name for which the registry does not answer. */
const isUnreachable = (name: string): boolean => name.startsWith("out-of-reach-")

const install = (context: ScriptContext, [, names, ...packages]: ReadonlyArray<string>): InstallResult => {
  const missing = packages.find(isUnknown)
  if (missing !== undefined) {
    return {
      installed: {},
      failure: `npm error code E404\nnpm error 404 Not Found - GET https://registry.test/${missing} - Not found\n`
    }
  }
  if (packages.some(isUnreachable)) {
    return { installed: {}, failure: "npm error code ECONNREFUSED\nnpm error request to the registry failed\n" }
  }
  const manifest = manifestOf(context)
  const wanted = new Map(
    packages.length === 0
      ? Object.entries({ ...manifest.dependencies, ...manifest.devDependencies })
      : packages.map((one) => {
          const at = one.indexOf("@", 1)
          return at < 0 ? [one, "1.0.0"] : [one.slice(0, at), one.slice(at + 1)]
        })
  )
  for (const [name, version] of wanted) write(context, `node_modules/${name}/package.json`, JSON.stringify({ version }))
  if (packages.length > 0) {
    const dependencies = { ...manifest.dependencies, ...Object.fromEntries(wanted) }
    write(context, "package.json", JSON.stringify({ ...manifest, dependencies }))
  }
  const installed = (JSON.parse(names!) as ReadonlyArray<string>).map((name) => [name, wanted.get(name)!])
  return { installed: Object.fromEntries(installed), failure: null }
}

const hasPackage = (context: ScriptContext, name: string): boolean =>
  textOf(context, `node_modules/${name}/package.json`) !== undefined

/** Whether a dev server would start: it is installed and its configuration is valid. */
export const canServe = (context: ScriptContext): boolean =>
  hasPackage(context, "vite") && !(textOf(context, "vite.config.ts") ?? "").includes("throw ")

const importsOf = (text: string): ReadonlyArray<string> =>
  Array.from(text.matchAll(/(?:from|import) "([^"]+)"/g), (match) => match[1]!)

const find = (context: ScriptContext): Findings => {
  const sources = pathsOf(context).filter((path) => /\.tsx?$/.test(path))
  const wanted = sources.flatMap((file) => importsOf(textOf(context, file)!).map((request) => ({ file, request })))
  const isFile = (request: string) => /^[./]/.test(request)
  const leads = ({ file, request }: { readonly file: string; readonly request: string }) =>
    isFile(request)
      ? textOf(context, `${file}/../${request}`) !== undefined
      : hasPackage(context, /^(@[^/]+\/)?[^/]+/.exec(request)![0])
  const problems = (files: boolean) =>
    wanted
      .filter((one) => isFile(one.request) === files && !leads(one))
      .map(({ file, request }) => ({ file, detail: `${file} imports "${request}"` }))
  const broken = sources.filter((file) => textOf(context, file)!.includes("{{{"))
  const up = canServe(context)
  return {
    server: { status: up ? 200 : null, said: up ? "" : "failed to load config", durationMs: 1 },
    types: {
      exitCode: broken.length === 0 ? 0 : 1,
      output: broken.map((file) => `${file}(1,1): error TS1109: Expression expected.`).join("\n"),
      durationMs: 1
    },
    imports: { looked: true, broken: [], files: problems(true), packages: problems(false), durationMs: 1 },
    disk: { free: 2 ** 33, size: 2 ** 35, durationMs: 0 }
  }
}

const compile = (context: ScriptContext): CompileResult => {
  const { imports, types } = find(context)
  const broken = types.output.split("\n").flatMap((line) => {
    const [, file, message] = /^(\S+)\(.*?\): (.*)$/.exec(line) ?? []
    return file === undefined ? [] : [{ file, message: message! }]
  })
  const missing = [...imports.files, ...imports.packages].map(({ detail, file }) => ({ file, message: detail }))
  return { errors: [...broken, ...missing] }
}

/** The scripts that end at once. */
const scripts: Readonly<Record<string, (context: ScriptContext, args: ReadonlyArray<string>) => unknown>> = {
  [listFiles]: list,
  [applyFiles]: apply,
  [installPackages]: install,
  [compilePage]: compile,
  [collectFindings]: find,
  [restartDevServer]: (): RestartResult => ({ asked: true })
}

/** The port of the dev server supervisor with these arguments; undefined if they are another script's. */
export const supervisedPort = (args: ReadonlyArray<string>): number | undefined =>
  args[0] === "-e" && args[1] === devServerSupervisor ? Number(args[2]) : undefined

/** The output of a script, as JSON or lines of JSON; undefined if it is not a script of an app. */
export const runScript = (
  context: ScriptContext,
  [flag, source, ...args]: ReadonlyArray<string>
): string | undefined => {
  const answer = flag === "-e" && source !== undefined && Object.hasOwn(scripts, source) ? scripts[source] : undefined
  if (answer === undefined) return undefined
  const answered = answer(context, args)
  return typeof answered === "string" ? answered : JSON.stringify(answered)
}
