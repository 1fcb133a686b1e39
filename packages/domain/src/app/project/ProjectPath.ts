import { Schema, SchemaGetter } from "effect"
import { encode } from "../../utf8.ts"

/** Length limits of a path and of each name in it, in bytes. Linux allows 4096 and 255. */
const maxPathBytes = 4000
const maxNameBytes = 255

/** Directories that programs generate. */
const generated = ["node_modules", ".git"]

const lengthOf = (text: string): number => encode(text).length

/** Why a text is not the path of a project file; undefined if it is one. */
const complaintOf = (text: string): string | undefined => {
  const names = text.split("/")
  if (text.includes("\0")) return "must not contain a NUL character"
  if (/\p{Surrogate}/u.test(text)) return "must not contain an unpaired surrogate"
  if (text.startsWith("/") || text.includes("\\")) return "must be relative to the project, with / between names"
  if (names.includes("..")) return "must not leave the project"
  if (names.some((name) => name === "" || name === ".")) return "must be the path of a file"
  if (lengthOf(text) > maxPathBytes || names.some((name) => lengthOf(name) > maxNameBytes)) return "is too long"
  if (names.some((name) => generated.includes(name))) return "must not be in node_modules or .git"
  return undefined
}

/** The path of a file relative to its project. It never leaves the project lexically; links inside may point elsewhere. */
export const ProjectPath = Schema.String.check(Schema.makeFilter((text: string) => complaintOf(text) ?? true)).pipe(
  Schema.brand("ProjectPath")
)
export type ProjectPath = typeof ProjectPath.Type

/**
 * Removes redundant parts: `./`, a repeated `/`, a trailing `/.`, and `..` that stays within the project. Leaves a path that
 * is absolute or leaves the project unchanged, so that the check rejects it.
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

/** A `ProjectPath` that is normalized when decoded: accepts `./src/App.tsx`. */
export const WrittenPath = Schema.String.pipe(
  Schema.decodeTo(ProjectPath, {
    decode: SchemaGetter.transform(normalized),
    encode: SchemaGetter.transform((path) => path)
  })
)
