/** Checks the `exports` of the manifests that are published, without building the packages. */
import { assert, describe, it } from "@effect/vitest"
import { globSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { type Exports, targetOf } from "../publicModules.ts"

interface Package {
  readonly folder: string
  readonly name: string
  readonly exports: Exports
  readonly modules: ReadonlyArray<string>
}

const root = join(import.meta.dirname, "..", "..")

const packages: ReadonlyArray<Package> = globSync("packages/*/package.json", { cwd: root }).map((file) => {
  const { name, publishConfig } = JSON.parse(readFileSync(join(root, file), "utf8")) as {
    readonly name: string
    readonly publishConfig: Pick<Package, "exports">
  }
  const folder = file.split("/")[1]!
  const modules = globSync("**/*.ts", { cwd: join(root, "packages", folder, "src") })
  return { folder, name, exports: publishConfig.exports, modules }
})

/** Imports internal modules, to check that it fails. */
const internalsFile = "scripts/outsider/internals.mjs"

const importPattern = /"((?:@castellan\/\w+)|castellan)\/([^"]+\.ts)"/g

const importsOf = (file: string) =>
  Array.from(readFileSync(join(root, file), "utf8").matchAll(importPattern), ([, name, module]) => ({
    target: packages.find((one) => one.name === name),
    module: module!
  }))

/** The files that import the packages as an embedder would, and the sources of the packages themselves. */
const importers = globSync(
  [
    "packages/*/{src,bin}/**/*.{ts,mjs}",
    "examples/*/{src,test,app}/**/*.{ts,tsx}",
    "examples/*/*.ts",
    "scripts/outsider/*"
  ],
  { cwd: root, exclude: (path) => String(path).includes("node_modules") }
).filter((file) => file !== internalsFile)

describe("The exports of the published packages", () => {
  it("name every module that another package or an example imports", () => {
    const internal = importers.flatMap((file) =>
      importsOf(file)
        .filter(({ module, target }) => {
          const isForeign = target !== undefined && file.split("/")[1] !== target.folder
          return isForeign && targetOf(target.exports, module) === undefined
        })
        .map(({ module, target }) => `${file} imports ${target!.name}/${module}`)
    )
    assert.deepStrictEqual(internal, [])
  })

  it("have no key without a module", () => {
    const stale = packages.flatMap(({ exports, modules, name }) =>
      Object.keys(exports)
        .filter((key) => key.endsWith(".ts"))
        .filter((key) => {
          const [before = "", after] = key.slice("./".length).split("*")
          return !modules.some((module) =>
            after === undefined ? module === before : module.startsWith(before) && module.endsWith(after)
          )
        })
        .map((key) => `${name}: ${key}`)
    )
    assert.deepStrictEqual(stale, [])
  })

  it("hide the internal modules that an outsider tries to import", () => {
    const internals = importsOf(internalsFile)
    assert.isAbove(internals.length, packages.length)
    for (const { module, target } of internals) {
      assert.include(target!.modules, module)
      assert.isUndefined(targetOf(target!.exports, module), module)
    }
  })
})
