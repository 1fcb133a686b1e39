/** The script that lists the files of an app's project, and the schema of the lines that it prints. */
import { Schema } from "effect"
import { script } from "./Script.ts"

/** A file that the listing omits, or whose content it omits, and why. */
const Skipped = Schema.Struct({ path: Schema.String, reason: Schema.String })

export interface Listing {
  /** Paths relative to the project, sorted. */
  readonly files: ReadonlyArray<string>
  /** Contents of the text files by path, if requested. */
  readonly contents?: Readonly<Record<string, string>>
  readonly skipped: ReadonlyArray<typeof Skipped.Type>
  /** The last file of this page if more follow; null on the last page. */
  readonly next: string | null
}

/** Which files of a project to list. */
export interface ListingOptions {
  /** Whether to include the files' contents. */
  readonly contents: boolean
  /** Files per page, 1 to `limits.files`, which is also the default. */
  readonly limit?: number | undefined
  /** The page starts with the first path after this one. */
  readonly after?: string | undefined
  /** Depth limit; 1 lists only the project's own directory. Unlimited by default. */
  readonly depth?: number | undefined
}

/**
 * `file` and `all`: bytes of one file and of all files together that a listing includes as text. `files` and `names`: files
 * per page and characters of their paths. `skipped`: unreadable directories that it reports.
 */
export const limits = {
  file: 256 * 1024,
  all: 5 * 1024 * 1024,
  files: 20_000,
  names: 2 * 1024 * 1024,
  skipped: 1000
} as const

/** A line that the script prints: a file with its content if requested, an omission, or that more files follow. */
export const Line = Schema.fromJsonString(
  Schema.Union([
    Schema.Struct({ file: Schema.String, text: Schema.optionalKey(Schema.String) }),
    Schema.Struct({ skipped: Skipped }),
    Schema.Struct({ next: Schema.String })
  ])
)
export type Line = typeof Line.Type

/** Length limit of a line in characters: the largest file with every character escaped, and room for its path. */
export const longestLine = 6 * limits.file + 64 * 1024

/** Limit of lines: each file and each omission is one line. */
export const mostLines = 2 * limits.files + limits.skipped + 1

/** The script's arguments. */
export const argumentsOf = ({ after = "", contents, depth, limit = limits.files }: ListingOptions) => [
  contents ? "contents" : "",
  String(limit),
  after,
  String(depth ?? "")
]

/**
 * `$1` is `contents` to include contents, `$2` the number of files, `$3` the path that the page starts after, `$4` the
 * depth limit. Links are neither followed nor listed. Directories are read in path order, and only until the page is full.
 */
export const listFiles = script(`
const [wanted, limit, after, levels] = process.argv.slice(1)
const left = new Set(["node_modules", ".git", "dist", "build", "package-lock.json", "npm-shrinkwrap.json", "yarn.lock",
  "pnpm-lock.yaml", "bun.lock", "bun.lockb"])
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })
const files = []
let all = 0, names = 0, skips = 0, next
const say = (line) => process.stdout.write(JSON.stringify(line) + "\\n")
const skip = (path, reason) => say({ skipped: { path, reason } })
const entriesOf = (directory) => {
  try {
    return fs.readdirSync(path.join(root, directory), { withFileTypes: true })
  } catch {
    if (skips++ < ${limits.skipped}) skip(directory, "It can't be read")
    return []
  }
}
const full = (file) => files.length >= Number(limit) || (files.length > 0 && names + file.length > ${limits.names})
const walk = (directory, level) => {
  const begin = directory === "" ? "" : directory + "/"
  const found = entriesOf(directory)
    .filter((entry) => !left.has(entry.name) && (entry.isDirectory() || entry.isFile()))
    .map((entry) => ({ path: begin + entry.name, isDirectory: entry.isDirectory() }))
    .map((entry) => ({ ...entry, key: entry.isDirectory ? entry.path + "/" : entry.path }))
    .sort((a, b) => (a.key < b.key ? -1 : 1))
  for (const { key, path, isDirectory } of found) {
    if (next !== undefined) return
    if (isDirectory) {
      const isDone = key <= after && !after.startsWith(key)
      if (!isDone && (levels === "" || level < Number(levels))) walk(path, level + 1)
    } else if (path > after) {
      if (full(path)) {
        next = files.at(-1)
        return
      }
      files.push(path)
      names += path.length
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
try {
  walk("", 1)
  if (next !== undefined) say({ next })
  for (const file of files) {
    if (wanted !== "contents") {
      say({ file })
      continue
    }
    let found
    try { found = textOf(file) } catch { found = { reason: "It can't be read" } }
    say({ file, text: found.text })
    if (found.text === undefined) skip(file, found.reason)
  }
} catch (cause) {
  process.stderr.write(String(cause && cause.message))
  process.exitCode = 1
}
`)
