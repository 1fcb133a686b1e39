/** Builds pages of a directory tree from a program in the sandbox that prints the entries of single directories. */
import {
  FileMode,
  fileModeOf,
  type FilePage,
  type ListingPage,
  SandboxFile
} from "@castellan/domain/sandbox/SandboxFile.ts"
import { SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { DateTime, Effect, Schema, Stream } from "effect"

/**
 * The format of an entry for `find`, each field followed by a NUL: path below one of the given directories, type, size,
 * modification time, mode, and link target.
 */
export const entryFormat = "%p\\0%y\\0%s\\0%T@\\0%m\\0%l\\0"

const fieldsOfEntry = 6

const kinds: Readonly<Record<string, SandboxFile["type"]>> = { f: "file", d: "directory", l: "link" }

/** Bytes of the longest entry: more than two paths of the maximum length and three numbers. */
const maxEntrySize = 16 * 1024

/** The most bytes of names in a page, which bounds the size of a page of long names. */
const maxPageNames = 512 * 1024

/** The most that is read for one page. A directory with more entries can't be listed. */
const readLimits = { entries: 500_000, bytes: 128 * 1024 * 1024 }

/** Bytes that are parsed before the fiber yields: about a millisecond of work. */
const parseChunkSize = 32 * 1024

/** Directories that the program lists in one run: the first number doubles up to the second, if a command line holds them. */
const firstBatch = 32
const largestBatch = 256
const batchBytes = 64 * 1024

/** The range of times in the API, years 0 to 9999, in epoch milliseconds. A file can claim any modification time. */
const minTime = Date.parse("0000-01-01T00:00:00.000Z")
const maxTime = Date.parse("9999-12-31T23:59:59.999Z")

const clamp = (min: number, value: number, max: number): number => Math.max(min, Math.min(max, value || 0))

/**
 * Epoch milliseconds of a time as `find` prints it: seconds, and a fraction that is added to them even if they are negative.
 * One and a half seconds before 1970 is `-2.5`.
 */
const parseTime = (text: string): number => {
  const [seconds = "", fraction = ""] = text.split(".")
  return Number(seconds) * 1000 + Math.floor(Number(`0.${fraction}`) * 1000)
}

const isMode = Schema.is(FileMode)

/** An entry as printed. Only the entries of the page are decoded. */
interface Entry {
  readonly path: string
  readonly type: string
  readonly size: string
  readonly time: string
  readonly mode: string
  readonly target: string
}

/** Clamps numbers to the ranges of the API. */
const toFile = ({ mode, path, size, target, time, type }: Entry): SandboxFile =>
  new SandboxFile({
    path,
    type: kinds[type] ?? "other",
    size: clamp(0, Math.trunc(Number(size)), Number.MAX_SAFE_INTEGER),
    mode: fileModeOf(isMode(mode) ? Number.parseInt(mode, 8) : 0),
    ...(type === "l" ? { target } : {}),
    modifiedAt: DateTime.makeUnsafe(clamp(minTime, parseTime(time), maxTime))
  })

/** The prefix of the paths of all entries below a directory. */
const prefixOf = (directory: string): string => (directory === "" ? "" : `${directory}/`)

/** The directory of an entry; undefined if the path is one that `find` never prints. */
const directoryOf = (path: string): string | undefined => {
  const slash = path.lastIndexOf("/")
  const name = path.slice(slash + 1)
  return name === "" || name === "." || name === ".." ? undefined : path.slice(0, Math.max(0, slash))
}

const depthOf = (directory: string): number => (directory === "" ? 0 : directory.split("/").length)

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

const badAnswer = (operation: string, why: string) =>
  new SandboxUnavailable({ operation, retryable: false, fault: "bad_answer", cause: new Error(`${operation}: ${why}`) })

/** The text of a field of an entry, by its number in `entryFormat`. */
type FieldAt = (index: number) => string

/** Splits the printed bytes into entries. */
class EntryParser {
  #rest: Buffer = Buffer.alloc(0)

  /**
   * Visits the complete entries in these bytes and the rest of those before, until a visit returns something other than
   * `undefined`. Returns `malformed` if the bytes are not entries.
   */
  parse<A>(bytes: Uint8Array, visit: (field: FieldAt) => A | undefined): A | "malformed" | undefined {
    const all = this.#rest.length === 0 ? Buffer.from(bytes) : Buffer.concat([this.#rest, bytes])
    const bounds = [0]
    const field: FieldAt = (index) => all.toString("utf8", bounds[index], bounds[index + 1]! - 1)
    for (let at = 0; at < all.length; at++) {
      if (all[at] !== 0) continue
      bounds.push(at + 1)
      if (bounds.length <= fieldsOfEntry) continue
      if (at - bounds[0]! > maxEntrySize) return "malformed"
      const found = visit(field)
      if (found !== undefined) return found
      bounds[0] = at + 1
      bounds.length = 1
    }
    this.#rest = all.subarray(bounds[0])
    return this.#rest.length > maxEntrySize ? "malformed" : undefined
  }

  get isComplete(): boolean {
    return this.#rest.length === 0
  }
}

/** The entries of the page, as far as the tree was read, and the directories that may contain more of them. */
class PageBuilder {
  readonly #limit: number
  readonly #after: string
  readonly #depth: number
  #entries: Array<Entry> = []
  #bytes = 0
  #directories: Array<string> = [""]
  /** The page ends before this path; undefined while the page has room. */
  #end: string | undefined

  constructor({ after = "", depth, limit }: ListingPage) {
    this.#limit = limit
    this.#after = after
    this.#depth = depth
  }

  isBeyond(path: string): boolean {
    return this.#end !== undefined && path >= this.#end
  }

  add(entry: Entry): void {
    const { path, target, type } = entry
    const prefix = prefixOf(path)
    const hasPageEntries = prefix > this.#after || this.#after.startsWith(prefix)
    if (type === "d" && hasPageEntries && depthOf(path) < this.#depth) this.#directories.push(path)
    if (path <= this.#after) return
    this.#entries.push(entry)
    this.#bytes += path.length + target.length
    if (this.#entries.length > 2 * this.#limit + 2 || this.#bytes > 2 * maxPageNames) this.#prune()
  }

  /** Keeps the entries of the page and one more, which shows that there is a next page. */
  #prune(): void {
    this.#entries.sort((a, b) => compare(a.path, b.path))
    let bytes = 0
    const beyond = this.#entries.findIndex(({ path, target }, index) => {
      bytes += path.length + target.length
      return index === this.#limit || (index > 0 && bytes > maxPageNames)
    })
    this.#bytes = bytes
    if (beyond < 0) return
    this.#end = this.#entries[beyond]!.path
    this.#entries.length = beyond + 1
    this.#directories = this.#directories.filter((directory) => !this.isBeyond(prefixOf(directory)))
  }

  /** The next directories to read, in order; none once the page is complete. */
  nextDirectories(most: number): ReadonlyArray<string> {
    this.#prune()
    this.#directories.sort((a, b) => compare(prefixOf(a), prefixOf(b)))
    let bytes = 0
    const taken = this.#directories.findIndex((directory, index) => {
      bytes += Buffer.byteLength(directory)
      return index === most || (index > 0 && bytes > batchBytes)
    })
    return this.#directories.splice(0, taken < 0 ? this.#directories.length : taken)
  }

  get page(): FilePage {
    const files = this.#entries.slice(0, this.#end === undefined ? undefined : -1).map(toFile)
    return { files, next: this.#end === undefined ? null : files.at(-1)!.path }
  }
}

/**
 * A page of the tree below a directory. `read` prints the entries of the given directories in `entryFormat`; the names of
 * the directories are relative to the listed one and begin with `./`. It reads only directories that can have entries of
 * the page and keeps only these entries, so a page costs about the same in a large tree as in a small one.
 */
export const page = <E>(
  operation: string,
  read: (directories: ReadonlyArray<string>) => Stream.Stream<Uint8Array, E>,
  wanted: ListingPage
): Effect.Effect<FilePage, E | SandboxUnavailable> =>
  Effect.gen(function* () {
    const builder = new PageBuilder(wanted)
    const budget = { ...readLimits }

    /** Adds the entries in some bytes; false once the rest of these directories is not needed. */
    const take = (parser: EntryParser, given: ReadonlySet<string>, bytes: Uint8Array) =>
      Effect.suspend(() => {
        budget.bytes -= bytes.length
        const found = parser.parse(bytes, (field) => {
          budget.entries--
          const printed = field(0)
          const path = printed.slice(2)
          const directory = printed.startsWith("./") ? directoryOf(path) : undefined
          if (directory === undefined || !given.has(directory)) return "malformed"
          if (builder.isBeyond(prefixOf(directory))) return "enough"
          if (builder.isBeyond(path)) return undefined
          builder.add({ path, type: field(1), size: field(2), time: field(3), mode: field(4), target: field(5) })
          return undefined
        })
        if (found === "malformed") return Effect.fail(badAnswer(operation, "the output is not a listing"))
        if (budget.bytes < 0 || budget.entries < 0) return Effect.fail(badAnswer(operation, "the listing is too long"))
        return Effect.as(Effect.yieldNow, found === undefined)
      })

    const readAll = (directories: ReadonlyArray<string>) =>
      Effect.suspend(() => {
        const parser = new EntryParser()
        const given = new Set(directories)
        let hasEnough = false
        return read(directories.map((directory) => `./${directory}`)).pipe(
          Stream.flatMap((bytes) => Stream.fromIterable(chunksOf(bytes))),
          Stream.runForEachWhile((chunk) =>
            Effect.tap(take(parser, given, chunk), (isNeeded) => Effect.sync(() => void (hasEnough ||= !isNeeded)))
          ),
          Effect.andThen(
            Effect.suspend(() =>
              hasEnough || parser.isComplete
                ? Effect.void
                : Effect.fail(badAnswer(operation, "the listing is incomplete"))
            )
          )
        )
      })

    let batch = firstBatch
    while (true) {
      const directories = builder.nextDirectories(batch)
      if (directories.length === 0) return builder.page
      yield* readAll(directories)
      batch = Math.min(2 * batch, largestBatch)
    }
  })

const chunksOf = (bytes: Uint8Array): ReadonlyArray<Uint8Array> =>
  Array.from({ length: Math.ceil(bytes.length / parseChunkSize) }, (_, index) =>
    bytes.subarray(index * parseChunkSize, (index + 1) * parseChunkSize)
  )
