/** Finds the test files that reach a source file through imports. */
import { parseSync } from "oxc-parser"
import { existsSync, globSync, readFileSync } from "node:fs"
import { basename, dirname, join, relative } from "node:path"

const isTest = (file: string) => file.endsWith(".test.ts") && !file.endsWith(".soak.test.ts")

/** The files that a file imports, and those that it names in a string to run them as a process. */
const importsOf = (root: string, file: string): ReadonlyArray<string> => {
  const source = readFileSync(join(root, file), "utf8")
  const { staticExports, staticImports } = parseSync(file, source).module
  const modules = [
    ...staticImports.map(({ entries, moduleRequest: { value } }) => ({ entries, value })),
    ...staticExports.flatMap(({ entries }) =>
      entries.flatMap((entry) => (entry.moduleRequest === null ? [] : [{ entries, value: entry.moduleRequest.value }]))
    )
  ]
  const typesOnly = ({ entries }: (typeof modules)[number]) =>
    entries.length > 0 && entries.every(({ isType }) => isType)
  const named = [...source.matchAll(/"([^"\s]+\.ts)"/g)].map(({ 1: path }) => path!)
  const requests = [
    ...modules.filter((module) => !typesOnly(module)).map(({ value }) => value),
    ...named.filter((path) => !modules.some(({ value }) => value === path)).flatMap((path) => [path, `./${path}`])
  ]
  return requests
    .map((request) =>
      request.startsWith("@castellan/")
        ? request.replace(/^@castellan\/([^/]+)\//, "packages/$1/src/")
        : request.startsWith("castellan/")
          ? request.replace("castellan/", "packages/cli/src/")
          : relative(root, join(root, dirname(file), request))
    )
    .filter((path) => path.endsWith(".ts") && existsSync(join(root, path)))
}

/** Returns the tests that reach a source file: those of its own package first, then by distance in imports. */
export const relatedTests = (root: string): ((file: string) => ReadonlyArray<string>) => {
  const importers = new Map<string, Array<string>>()
  for (const file of globSync(["packages/*/{src,test}/**/*.ts", "examples/*/**/*.ts"], {
    cwd: root,
    exclude: (name) => name === "node_modules" || name === "dist"
  })) {
    for (const path of new Set(importsOf(root, file))) importers.set(path, [...(importers.get(path) ?? []), file])
  }
  const folder = (file: string) => file.split("/").slice(0, 2).join("/")
  return (source) => {
    const found = new Map([[source, 0]])
    for (const [file, distance] of found) {
      for (const importer of importers.get(file) ?? []) if (!found.has(importer)) found.set(importer, distance + 1)
    }
    const foreign = (test: string) => Number(folder(test) !== folder(source))
    const isBeside = (test: string) => basename(dirname(test)) === basename(dirname(source))
    // The test with the same name and the folder's contract are closest.
    const isNamed = (test: string) =>
      basename(test, ".test.ts") === basename(source, ".ts") ||
      (basename(test) === "contract.test.ts" && isBeside(test))
    return [...found.keys()]
      .filter(isTest)
      .map((test) => ({
        test,
        order: [foreign(test), isNamed(test) ? 0 : 1, found.get(test)!, isBeside(test) ? 0 : 1]
      }))
      .toSorted((a, b) => a.order.map((value, i) => value - b.order[i]!).find((difference) => difference !== 0) ?? 0)
      .map(({ test }) => test)
  }
}
