import { Schema, SchemaGetter } from "effect"
import { encode } from "../../utf8.ts"

/** Bytes that a path and a name in it may have, as Linux has it. */
const longestPath = 4000
const longestName = 255

/** What is made by programs, and not by those who write an app. */
const generated = ["node_modules", ".git"]

const lengthOf = (text: string): number => encode(text).length

/** Why a text is no path of a file in a project; undefined where it is one. */
const complaintOf = (text: string): string | undefined => {
  const names = text.split("/")
  if (text.includes("\0")) return "must not contain a NUL character"
  if (/\p{Surrogate}/u.test(text)) return "must not contain half of a character"
  if (text.startsWith("/") || text.includes("\\")) return "must be relative to the project, with / between names"
  if (names.includes("..")) return "must not leave the project"
  if (names.some((name) => name === "" || name === ".")) return "must be the path of a file"
  if (lengthOf(text) > longestPath || names.some((name) => lengthOf(name) > longestName)) return "is too long"
  if (names.some((name) => generated.includes(name))) return "must not be in node_modules or .git"
  return undefined
}

/** The path of a file in an app's project, relative to it. It never leaves the project, but for links in there. */
export const ProjectPath = Schema.String.check(Schema.makeFilter((text: string) => complaintOf(text) ?? true)).pipe(
  Schema.brand("ProjectPath")
)
export type ProjectPath = typeof ProjectPath.Type

/**
 * The path without what changes nothing: `./`, a second `/`, a `/.` at the end, and `..` that stays within the project. A
 * path that leaves the project, or is absolute, stays as it is and is refused.
 */
const normalized = (text: string): string => {
  if (text.startsWith("/")) return text
  const given = text.split("/")
  const names: Array<string> = []
  for (const [at, name] of given.entries()) {
    if (name === "." || (name === "" && at < given.length - 1)) continue
    if (name !== "..") names.push(name)
    else if (names.pop() === undefined) return text
  }
  return names.join("/")
}

/** A `ProjectPath` as people and programs write it, such as `./src/App.tsx`. */
export const WrittenPath = Schema.String.pipe(
  Schema.decodeTo(ProjectPath, {
    decode: SchemaGetter.transform(normalized),
    encode: SchemaGetter.transform((path) => path)
  })
)
