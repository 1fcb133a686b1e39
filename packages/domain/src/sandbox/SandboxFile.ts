/** Paths, modes and directory listings of a sandbox. */
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

/** The permission bits of a numeric mode as four octal digits. */
export const fileModeOf = (mode: number): FileMode => FileMode.make((mode & 0o7777).toString(8).padStart(4, "0"))

/** An entry of a directory in a sandbox. */
export class SandboxFile extends Schema.Class<SandboxFile>("SandboxFile")({
  /** Relative to the directory that was listed. */
  path: Schema.String,
  type: Schema.Literals(["file", "directory", "link", "other"]),
  /** Bytes. */
  size: Schema.Int,
  /** Permissions, four octal digits; meaningless for a link. */
  mode: FileMode,
  /** The target as written in a link; absent for other types. */
  target: Schema.optionalKey(Schema.String),
  modifiedAt: Schema.DateTimeUtc
}) {}

/** Maximum entries of a page, and maximum depth of a listing. */
export const listingLimits = { entries: 1000, depth: 64 } as const

/** A request for a page of a listing. */
export interface ListingPage {
  /** Levels below the directory, 1 to `listingLimits.depth`; 1 lists only the directory's own entries. */
  readonly depth: number
  /** Maximum entries of the page, 1 to `listingLimits.entries`. */
  readonly limit: number
  /** The page begins after this path; absent for the first page. */
  readonly after?: string | undefined
}

/** One page of a listing. */
export interface FilePage {
  /** Ordered by path, in UTF-16 code units. */
  readonly files: ReadonlyArray<SandboxFile>
  /** The path of the page's last entry; null on the last page. */
  readonly next: string | null
}
