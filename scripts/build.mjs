// Builds what each package publishes, below its `dist`: JavaScript, declarations and a manifest.
import { spawnSync } from "node:child_process"
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const root = join(dirname(fileURLToPath(import.meta.url)), "..")

/** In the order of their dependencies: a build needs the declarations of the packages before it. */
const packages = ["domain", "testkit", "adapters", "http", "cli"]

const readJson = (file) => JSON.parse(readFileSync(file, "utf8"))

/** Rewrites what the compiler does not: URLs of files beside a module, and relative imports in declarations. */
const leftAsTheyAre = {
  ".js": /(\bnew URL\("\.{1,2}\/[^"\n]+)\.ts(")/g,
  ".d.ts": /((?:\bfrom|\bimport|\bimport\()\s*"\.{1,2}\/[^"\n]+)\.ts(")/g
}

const pointAtWhatIsBuilt = (directory) => {
  for (const name of readdirSync(directory, { recursive: true, encoding: "utf8" })) {
    for (const [ending, left] of Object.entries(leftAsTheyAre)) {
      if (!name.endsWith(ending)) continue
      const file = join(directory, name)
      writeFileSync(file, readFileSync(file, "utf8").replaceAll(left, "$1.js$2"))
    }
  }
}

/** Files that are not TypeScript. The compiler does not copy them. */
const copyJavaScript = (from, to) => {
  for (const name of readdirSync(from, { recursive: true, encoding: "utf8" })) {
    if (name.endsWith(".mjs")) cpSync(join(from, name), join(to, name))
  }
}

/** The folder of a workspace package. */
const folderOf = (name) => (name === "castellan" ? "cli" : name.replace("@castellan/", ""))
const versionOf = (name) => readJson(join(root, "packages", folderOf(name), "package.json")).version

/** The published manifest: the workspace's, overridden by `publishConfig` and without development-only fields. */
const publishedManifest = (manifest) => {
  const { devDependencies: _, private: __, publishConfig, scripts: ___, ...kept } = manifest
  const { peerDependencies = {}, ...published } = publishConfig
  const needed = Object.entries(kept.dependencies).filter(([name]) => !(name in peerDependencies))
  const dependencies = needed.map(([name, wanted]) => [
    name,
    wanted.startsWith("workspace:") ? versionOf(name) : wanted
  ])
  return { ...kept, ...published, dependencies: Object.fromEntries(dependencies), peerDependencies }
}

const build = (name) => {
  const source = join(root, "packages", name)
  const target = join(source, "dist")
  rmSync(target, { recursive: true, force: true })
  const compiler = [join(root, "node_modules", ".bin", "tsc"), "-p", join(source, "tsconfig.build.json")]
  const { status } = spawnSync(compiler[0], compiler.slice(1), { stdio: "inherit" })
  if (status !== 0) process.exit(status ?? 1)
  pointAtWhatIsBuilt(join(target, "lib"))
  copyJavaScript(join(source, "src"), join(target, "lib"))
  const manifest = readJson(join(source, "package.json"))
  writeFileSync(join(target, "package.json"), `${JSON.stringify(publishedManifest(manifest), null, 2)}\n`)
  cpSync(join(source, "README.md"), join(target, "README.md"))
  cpSync(join(root, "LICENSE"), join(target, "LICENSE"))
  if (name === "http") cpSync(join(source, "openapi.json"), join(target, "openapi.json"))
  if (name === "cli") {
    mkdirSync(join(target, "bin"))
    cpSync(join(source, "bin", "published.mjs"), join(target, "bin", "castellan.mjs"))
  }
}

for (const name of packages) build(name)
