/** Pages of a directory tree, read from a program inside the sandbox that prints the entries of single directories. */
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
 * How `find` prints an entry, each field with a NUL behind it: the path below one of the directories it was given, type,
 * size, time of change, mode, and the target of a link.
 */
export const entryFormat = "%p\\0%y\\0%s\\0%T@\\0%m\\0%l\\0"

const fieldsOfEntry = 6

const kinds: Readonly<Record<string, SandboxFile["type"]>> = { f: "file", d: "directory", l: "link" }

/** Bytes of an entry; longer than two paths of the longest kind and three numbers. */
const longestEntry = 16 * 1024

/** Bytes of names in a page, so that a page of long names is not larger than others. */
const namesInPage = 512 * 1024

/** What is read for one page. A directory with more entries can't be listed. */
const readForPage = { entries: 500_000, bytes: 128 * 1024 * 1024 }

/** Bytes that are looked at before others have their turn: about a millisecond. */
const atOnce = 32 * 1024

/** Directories that the program is given first; twice as many each time, as long as their names fit into a command line. */
const firstBatch = 32
const largestBatch = 256
const batchBytes = 64 * 1024

/** The years of times on the wire, 0 to 9999, in epoch milliseconds. A file can claim any time of change. */
const firstMoment = Date.parse("0000-01-01T00:00:00.000Z")
const lastMoment = Date.parse("9999-12-31T23:59:59.999Z")

const within = (least: number, value: number, most: number): number => Math.max(least, Math.min(most, value || 0))

/**
 * The milliseconds of a time as `find` prints it: seconds, and the fraction that comes on top of them. One and a half
 * seconds before 1970 is `-2.5`.
 */
const millisOf = (text: string): number => {
  const [seconds = "", fraction = ""] = text.split(".")
  return Number(seconds) * 1000 + Math.floor(Number(`0.${fraction}`) * 1000)
}

const isMode = Schema.is(FileMode)

/** An entry as it was printed. Only those of the page are made into files. */
interface Entry {
  readonly path: string
  readonly type: string
  readonly size: string
  readonly time: string
  readonly mode: string
  readonly target: string
}

/** A number that has no place on the wire becomes the nearest one that has. */
const toFile = ({ mode, path, size, target, time, type }: Entry): SandboxFile =>
  new SandboxFile({
    path,
    type: kinds[type] ?? "other",
    size: within(0, Math.trunc(Number(size)), Number.MAX_SAFE_INTEGER),
    mode: fileModeOf(isMode(mode) ? Number.parseInt(mode, 8) : 0),
    ...(type === "l" ? { target } : {}),
    modifiedAt: DateTime.makeUnsafe(within(firstMoment, millisOf(time), lastMoment))
  })

/** The path that all entries below a directory begin with, as the program is given the directory. */
const below = (directory: string): string => (directory === "" ? "" : `${directory}/`)

/** The directory that an entry is in; undefined where the path is not one that the program can print. */
const directoryOf = (path: string): string | undefined => {
  const slash = path.lastIndexOf("/")
  const name = path.slice(slash + 1)
  return name === "" || name === "." || name === ".." ? undefined : path.slice(0, Math.max(0, slash))
}

const levelOf = (directory: string): number => (directory === "" ? 0 : directory.split("/").length)

const inOrder = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

const badAnswer = (operation: string, why: string) =>
  new SandboxUnavailable({ operation, retryable: false, fault: "bad_answer", cause: new Error(`${operation}: ${why}`) })

/** Gives the text of a field of an entry, by its number in `entryFormat`. */
type FieldAt = (index: number) => string

/** Cuts what the program prints into entries. */
class Entries {
  #rest: Buffer = Buffer.alloc(0)

  /**
   * Visits the whole entries in these bytes and those before, until a visit gives something else than `undefined`. Gives
   * `malformed` where they are no entries.
   */
  take<A>(bytes: Uint8Array, visit: (field: FieldAt) => A | undefined): A | "malformed" | undefined {
    const all = this.#rest.length === 0 ? Buffer.from(bytes) : Buffer.concat([this.#rest, bytes])
    const bounds = [0]
    const field: FieldAt = (index) => all.toString("utf8", bounds[index], bounds[index + 1]! - 1)
    for (let at = 0; at < all.length; at++) {
      if (all[at] !== 0) continue
      bounds.push(at + 1)
      if (bounds.length <= fieldsOfEntry) continue
      if (at - bounds[0]! > longestEntry) return "malformed"
      const found = visit(field)
      if (found !== undefined) return found
      bounds[0] = at + 1
      bounds.length = 1
    }
    this.#rest = all.subarray(bounds[0])
    return this.#rest.length > longestEntry ? "malformed" : undefined
  }

  get isWhole(): boolean {
    return this.#rest.length === 0
  }
}

/** The first entries of a tree in order, as far as the tree was read, and the directories that may have more of them. */
class Window {
  readonly #limit: number
  readonly #after: string
  readonly #depth: number
  #entries: Array<Entry> = []
  #bytes = 0
  #directories: Array<string> = [""]
  /** No entry of the page comes at or after this path; undefined while there is room. */
  #cut: string | undefined

  constructor({ after = "", depth, limit }: ListingPage) {
    this.#limit = limit
    this.#after = after
    this.#depth = depth
  }

  isBeyond(path: string): boolean {
    return this.#cut !== undefined && path >= this.#cut
  }

  add(entry: Entry): void {
    const { path, target, type } = entry
    const prefix = below(path)
    const mayHaveMore = prefix > this.#after || this.#after.startsWith(prefix)
    if (type === "d" && mayHaveMore && levelOf(path) < this.#depth) this.#directories.push(path)
    if (path <= this.#after) return
    this.#entries.push(entry)
    this.#bytes += path.length + target.length
    if (this.#entries.length > 2 * this.#limit + 2 || this.#bytes > 2 * namesInPage) this.#prune()
  }

  /** Keeps the entries of the page, and one more: it tells that there are more. */
  #prune(): void {
    this.#entries.sort((a, b) => inOrder(a.path, b.path))
    let bytes = 0
    const beyond = this.#entries.findIndex(({ path, target }, index) => {
      bytes += path.length + target.length
      return index === this.#limit || (index > 0 && bytes > namesInPage)
    })
    this.#bytes = bytes
    if (beyond < 0) return
    this.#cut = this.#entries[beyond]!.path
    this.#entries.length = beyond + 1
    this.#directories = this.#directories.filter((directory) => !this.isBeyond(below(directory)))
  }

  /** The next directories to be read, the first ones in order; none once the page is known. */
  next(most: number): ReadonlyArray<string> {
    this.#prune()
    this.#directories.sort((a, b) => inOrder(below(a), below(b)))
    let bytes = 0
    const taken = this.#directories.findIndex((directory, index) => {
      bytes += Buffer.byteLength(directory)
      return index === most || (index > 0 && bytes > batchBytes)
    })
    return this.#directories.splice(0, taken < 0 ? this.#directories.length : taken)
  }

  get page(): FilePage {
    const files = this.#entries.slice(0, this.#cut === undefined ? undefined : -1).map(toFile)
    return { files, next: this.#cut === undefined ? null : files.at(-1)!.path }
  }
}

/**
 * A page of the tree below a directory. `read` prints the entries of the directories that it is given, in this order and
 * as `entryFormat` says; their names are relative to the directory that is listed, and begin with `./`. Only directories
 * that can have entries of the page are read, so the page of a large tree costs about as much as that of a small one, and
 * no more entries than those of the page are kept.
 */
export const page = <E>(
  operation: string,
  read: (directories: ReadonlyArray<string>) => Stream.Stream<Uint8Array, E>,
  wanted: ListingPage
): Effect.Effect<FilePage, E | SandboxUnavailable> =>
  Effect.gen(function* () {
    const window = new Window(wanted)
    const left = { ...readForPage }

    /** Takes the entries of some bytes; false once no more of these directories is needed. */
    const take = (entries: Entries, given: ReadonlySet<string>, bytes: Uint8Array) =>
      Effect.suspend(() => {
        left.bytes -= bytes.length
        const found = entries.take(bytes, (field) => {
          left.entries--
          const printed = field(0)
          const path = printed.slice(2)
          const directory = printed.startsWith("./") ? directoryOf(path) : undefined
          if (directory === undefined || !given.has(directory)) return "malformed"
          if (window.isBeyond(below(directory))) return "enough"
          if (window.isBeyond(path)) return undefined
          window.add({ path, type: field(1), size: field(2), time: field(3), mode: field(4), target: field(5) })
          return undefined
        })
        if (found === "malformed") return Effect.fail(badAnswer(operation, "the answer is no listing"))
        if (left.bytes < 0 || left.entries < 0) return Effect.fail(badAnswer(operation, "the listing is too long"))
        return Effect.as(Effect.yieldNow, found === undefined)
      })

    const readAll = (directories: ReadonlyArray<string>) =>
      Effect.suspend(() => {
        const entries = new Entries()
        const given = new Set(directories)
        let isCut = false
        return read(directories.map((directory) => `./${directory}`)).pipe(
          Stream.flatMap((bytes) => Stream.fromIterable(pieces(bytes))),
          Stream.runForEachWhile((piece) =>
            Effect.tap(take(entries, given, piece), (goesOn) => Effect.sync(() => void (isCut ||= !goesOn)))
          ),
          Effect.andThen(
            Effect.suspend(() =>
              isCut || entries.isWhole ? Effect.void : Effect.fail(badAnswer(operation, "the listing breaks off"))
            )
          )
        )
      })

    let most = firstBatch
    while (true) {
      const directories = window.next(most)
      if (directories.length === 0) return window.page
      yield* readAll(directories)
      most = Math.min(2 * most, largestBatch)
    }
  })

const pieces = (bytes: Uint8Array): ReadonlyArray<Uint8Array> =>
  Array.from({ length: Math.ceil(bytes.length / atOnce) }, (_, index) =>
    bytes.subarray(index * atOnce, (index + 1) * atOnce)
  )
