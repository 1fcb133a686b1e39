import { Schema } from "effect"

/** A path inside a sandbox: absolute, or relative to its home directory. */
export const SandboxPath = Schema.String.check(
  Schema.isMinLength(1, { message: "must not be empty" }),
  Schema.isPattern(/^[^\0]*$/, { message: "must not contain a NUL character" }),
  Schema.isMaxLength(4096, { message: "must be at most 4096 characters" })
).pipe(Schema.brand("SandboxPath"))
export type SandboxPath = typeof SandboxPath.Type

/** Permissions of a file, in octal: `0644`. */
export const FileMode = Schema.String.check(
  Schema.isPattern(/^[0-7]{1,4}$/, { message: "must be permissions in octal, such as 644 or 0755" })
).pipe(Schema.brand("FileMode"))
export type FileMode = typeof FileMode.Type

/** The four digits of a mode as numbers have it, whatever else the number says. */
export const fileModeOf = (mode: number): FileMode => FileMode.make((mode & 0o7777).toString(8).padStart(4, "0"))

/** An entry of a directory in a sandbox. */
export class SandboxFile extends Schema.Class<SandboxFile>("SandboxFile")({
  /** Relative to the directory that was listed. */
  path: Schema.String,
  type: Schema.Literals(["file", "directory", "link", "other"]),
  /** Bytes. */
  size: Schema.Int,
  /** Its permissions, four octal digits; of a link they mean nothing. */
  mode: FileMode,
  /** Where a link leads, as it is written in it; only links have it. */
  target: Schema.optionalKey(Schema.String),
  modifiedAt: Schema.DateTimeUtc
}) {}

/** Entries of a page of a listing, and levels that it goes down, at most. */
export const listingLimits = { entries: 1000, depth: 64 } as const

/** Which entries a page of a listing has. */
export interface ListingPage {
  /** Levels below the directory, 1 to `listingLimits.depth`; 1 lists the directory's own entries. */
  readonly depth: number
  /** Entries of the page, 1 to `listingLimits.entries`. */
  readonly limit: number
  /** The page has the entries whose paths come after this one; the first page has none. */
  readonly after?: string | undefined
}

/** One page of a listing. */
export interface FilePage {
  /** In order of their paths, compared by UTF-16 code units. */
  readonly files: ReadonlyArray<SandboxFile>
  /** The path of the last entry where more entries follow; null on the last page. */
  readonly next: string | null
}
