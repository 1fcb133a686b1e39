import { Result, Schema, SemVerRange } from "effect"

/** Length limit of a name in characters; the registry's limit for new packages. */
const maxNameLength = 214

/** Length limit of a version or tag in characters; far longer than real ones. */
const maxVersionLength = 100

/** Part of a name: needs no escaping in a URL and cannot be taken for an option or a path. */
const part = /^[A-Za-z0-9~][A-Za-z0-9._~-]*$/

/** Whether the package manager would take the text for a file. */
const isFile = (text: string): boolean => /\.(?:tgz|tar|tar\.gz)$/i.test(text)

const isName = (name: string): boolean => {
  const [bare = "", scope] = name.split("/").toReversed()
  if (name.length > maxNameLength || name.split("/").length > 2) return false
  if (scope !== undefined && !(scope.startsWith("@") && part.test(scope.slice(1)))) return false
  return part.test(bare) && !isFile(bare) && !["node_modules", "favicon.ico"].includes(name.toLowerCase())
}

/** A version, a range of versions, or a tag such as `latest`. */
const isVersion = (text: string): boolean => {
  if (text.length > maxVersionLength || isFile(text) || !/^[A-Za-z0-9^~*=<>][A-Za-z0-9.^~*=<>|+ -]*$/.test(text))
    return false
  return /^[A-Za-z][A-Za-z0-9.-]*$/.test(text) || Result.isSuccess(SemVerRange.parse(text))
}

const isPackage = (text: string): boolean => {
  const at = text.indexOf("@", 1)
  return at < 0 ? isName(text) : isName(text.slice(0, at)) && isVersion(text.slice(at + 1))
}

/**
 * A package of the registry: its name and, optionally, `@` and a version, range or tag. Rejects texts that the package
 * manager would take for a URL, path, git repository, alias or option. The rules follow npm's own
 * `validate-npm-package-name` and `npm-package-arg`; the tests compare them.
 */
export const PackageName = Schema.String.check(Schema.makeFilter(isPackage, { message: "must be a package" })).pipe(
  Schema.brand("PackageName")
)
export type PackageName = typeof PackageName.Type

/** The name without the version, range or tag. */
export const bareName = (name: PackageName): string => {
  const at = name.indexOf("@", 1)
  return at < 0 ? name : name.slice(0, at)
}

/** Packages per install. */
export const atOnce = 50
