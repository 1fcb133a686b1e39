/** What files an app's project has. */
import { Schema } from "effect"
import { script } from "./Script.ts"

/** A file whose content is not there, and why. */
const Skipped = Schema.Struct({ path: Schema.String, reason: Schema.String })

export const Listing = Schema.Struct({
  /** Relative to the project, in order. */
  files: Schema.Array(Schema.String),
  /** What the text files hold; where it was asked for. */
  contents: Schema.optionalKey(Schema.Record(Schema.String, Schema.String)),
  skipped: Schema.Array(Skipped)
})
export type Listing = typeof Listing.Type

/** Bytes of a file, and of all together, that are given as text; files that are named at most. */
export const limits = { file: 256 * 1024, all: 5 * 1024 * 1024, files: 20_000 } as const

/** `$1` is `contents` where those are wanted. Links are not followed and not named. */
export const listing = script(`
const wanted = process.argv[1] === "contents"
const left = new Set(["node_modules", ".git", "dist", "build", "package-lock.json", "npm-shrinkwrap.json", "yarn.lock",
  "pnpm-lock.yaml", "bun.lock", "bun.lockb"])
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })
const files = [], contents = {}, skipped = []
let all = 0, isTooMany = false
const entriesOf = (directory) => {
  try {
    return fs.readdirSync(path.join(root, directory), { withFileTypes: true })
  } catch {
    skipped.push({ path: directory, reason: "It can't be read" })
    return []
  }
}
const walk = (directory) => {
  for (const entry of entriesOf(directory)) {
    if (left.has(entry.name)) continue
    const file = directory === "" ? entry.name : directory + "/" + entry.name
    if (entry.isDirectory()) walk(file)
    else if (entry.isFile() && files.length < ${limits.files}) files.push(file)
    else if (entry.isFile() && !isTooMany) {
      isTooMany = true
      skipped.push({ path: file, reason: "There are more files than are named" })
    }
  }
}
const textOf = (file) => {
  const size = fs.statSync(path.join(root, file)).size
  if (size > ${limits.file}) return { reason: "It is larger than 256 KiB" }
  if (all + size > ${limits.all}) return { reason: "The contents together are larger than 5 MiB" }
  const bytes = fs.readFileSync(path.join(root, file))
  if (bytes.includes(0)) return { reason: "It is not text" }
  try {
    const text = utf8.decode(bytes)
    all += bytes.length
    return { text }
  } catch {
    return { reason: "It is not text" }
  }
}
main(async () => {
  walk("")
  files.sort((a, b) => (a < b ? -1 : 1))
  if (!wanted) return { files, skipped }
  for (const file of files) {
    let found
    try { found = textOf(file) } catch { found = { reason: "It can't be read" } }
    if (found.text === undefined) skipped.push({ path: file, reason: found.reason })
    else contents[file] = found.text
  }
  return { files, contents, skipped }
})
`)
