/** Installing packages into an app's project. */
import { Schema } from "effect"
import { script } from "./Script.ts"

export const InstallResult = Schema.Struct({
  /** What of it is there afterwards, by name, with its version. */
  installed: Schema.Record(Schema.String, Schema.String),
  /** What the package manager said, where it failed; null where it did not. */
  failure: Schema.NullOr(Schema.String)
})
export type InstallResult = typeof InstallResult.Type

/**
 * `$1` is the milliseconds it may take, `$2` the names of what to look for afterwards as JSON, the rest the packages; all
 * that the project wants if there are none. The scripts of packages are not run. The dev server is started again then, so
 * that it finds them; where none was ever started, what it prepares of packages is prepared for the first.
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
