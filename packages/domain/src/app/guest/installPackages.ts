/** The script that installs packages into an app's project. */
import { Schema } from "effect"
import { script } from "./Script.ts"

export const InstallResult = Schema.Struct({
  /** Versions of the installed packages by name. */
  installed: Schema.Record(Schema.String, Schema.String),
  /** The package manager's output if it failed, otherwise null. */
  failure: Schema.NullOr(Schema.String)
})
export type InstallResult = typeof InstallResult.Type

/**
 * `$1` is the time limit in milliseconds, `$2` the names whose versions to report as JSON, the rest the packages to
 * install; without any, all dependencies of the project. Scripts of packages do not run. Afterwards the script restarts
 * the dev server, so that it finds the packages. If none runs, it runs Vite's dependency optimizer for the first start.
 */
export const installPackages = script(`
const [deadline, names, ...packages] = process.argv.slice(1)
const flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-progress", "--no-update-notifier", "--loglevel=error",
  "--color=false"]
const versionOf = (name) => {
  try {
    return JSON.parse(fs.readFileSync(path.join(root, "node_modules", name, "package.json"), "utf8")).version
  } catch {
    return undefined
  }
}
main(() => locked(async () => {
  const { code, late, output } = await run("npm", ["install", ...flags, "--", ...packages], { deadline: Number(deadline) })
  if (code !== 0) return { installed: {}, failure: late ? "It took too long" : output }
  const restarted = await ask("restart")
  if (restarted === undefined) {
    await run(process.execPath, [path.join("node_modules", "vite", "bin", "vite.js"), "optimize"], { deadline: 60000 })
  }
  const found = JSON.parse(names).map((name) => [name, versionOf(name)])
  return { installed: Object.fromEntries(found.filter(([, version]) => typeof version === "string")), failure: null }
}))
`)
