import { Result, Schema, SemVerRange } from "effect"

/** Characters of a name, as the registry has it for new ones. */
const longest = 214

/** Characters of a version or tag; far more than any has. */
const longestVersion = 100

/** Part of a name: what may stand in a URL as it is, and begins neither an option nor a path. */
const part = /^[A-Za-z0-9~][A-Za-z0-9._~-]*$/

/** What the package manager would take for a file. */
const isFile = (text: string): boolean => /\.(?:tgz|tar|tar\.gz)$/i.test(text)

const isName = (name: string): boolean => {
  const [bare = "", scope] = name.split("/").toReversed()
  if (name.length > longest || name.split("/").length > 2) return false
  if (scope !== undefined && !(scope.startsWith("@") && part.test(scope.slice(1)))) return false
  return part.test(bare) && !isFile(bare) && !["node_modules", "favicon.ico"].includes(name.toLowerCase())
}

/** A version, a range of versions, or a tag such as `latest`. */
const isVersion = (text: string): boolean => {
  if (text.length > longestVersion || isFile(text) || !/^[A-Za-z0-9^~*=<>][A-Za-z0-9.^~*=<>|+ -]*$/.test(text))
    return false
  return /^[A-Za-z][A-Za-z0-9.-]*$/.test(text) || Result.isSuccess(SemVerRange.parse(text))
}

const isPackage = (text: string): boolean => {
  const at = text.indexOf("@", 1)
  return at < 0 ? isName(text) : isName(text.slice(0, at)) && isVersion(text.slice(at + 1))
}

/**
 * A package of the registry by its name, with a version, range or tag after `@` if one is meant. What the package manager
 * would take for a URL, a path, a git repository, an alias or an option is none. The rules are those of npm's own
 * `validate-npm-package-name` and `npm-package-arg`, which the tests hold this to.
 */
export const PackageName = Schema.String.check(Schema.makeFilter(isPackage, { message: "must be a package" })).pipe(
  Schema.brand("PackageName")
)
export type PackageName = typeof PackageName.Type

/** The name without what comes after it. */
export const bareName = (name: PackageName): string => {
  const at = name.indexOf("@", 1)
  return at < 0 ? name : name.slice(0, at)
}

/** Packages that are installed at once. */
export const atOnce = 50
