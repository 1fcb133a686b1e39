/** The forms that fields take on the wire, and what is said of those that don't have it. */
import { AccountId } from "@castellan/domain/identity/Account.ts"
import { Cursor } from "@castellan/domain/Page.ts"
import { Argument } from "@castellan/domain/sandbox/Command.ts"
import { listingLimits } from "@castellan/domain/sandbox/SandboxFile.ts"
import { Duration, Schema, SchemaTransformation } from "effect"

/** A body's field that may be left out; null is the same as absent. */
export const absent = <S extends Schema.Top>(schema: S) => Schema.optionalKey(Schema.NullOr(schema))

/** Text of at least one character. */
export const Text = Schema.String.check(Schema.isMinLength(1, { message: "must not be empty" }))

/** An argument of a program, of at least one character. */
export const ProgramText = Argument.check(Schema.isMinLength(1, { message: "must not be empty" }))

const isRepositoryUrl = (text: string): boolean => {
  const url = URL.parse(text)
  return url !== null && url.username === "" && url.password === ""
}

/** Where a repository is; credentials have no place in it. */
export const RepositoryUrl = Schema.String.check(
  Schema.isMaxLength(2000, { message: "must be a valid URL" }),
  Schema.makeFilter(isRepositoryUrl, { message: "must be a valid URL" })
)

/** An instant as ISO 8601, in milliseconds and UTC. */
export const Time = Schema.DateTimeUtcFromString

const timeForm = /^(\d{4}-\d\d-\d\d)([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)?)?$/i

/** The last moment that every database and every client reads. */
const lastMoment = Date.UTC(9999, 11, 31, 23, 59, 59, 999)

const isTime = (text: string): boolean => {
  const day = timeForm.exec(text)?.[1]
  const at = Date.parse(text)
  // A day that its month does not have would become one of the next month.
  return day !== undefined && at <= lastMoment && new Date(Date.parse(day)).toISOString().startsWith(day)
}

/** A time that a caller gives. */
export const GivenTime = Schema.String.check(
  Schema.makeFilter(isTime, { message: "must be an ISO 8601 time, such as 2030-01-31T12:00:00Z" })
).pipe(Schema.decodeTo(Time))

/** Milliseconds from 1 to `most`. */
export const milliseconds = (most: Duration.Duration) => {
  const maximum = Duration.toMillis(most)
  const message = `must be an integer between 1 and ${maximum}`
  return Schema.Number.annotate({ message }).check(
    Schema.isInt({ message }),
    Schema.isBetween({ minimum: 1, maximum }, { message })
  )
}

/** The account a request is for: the caller's own if it is left out. */
export const forAccount = { account_id: Schema.optionalKey(AccountId) }

/** The id of the last event that a reader of a stream got, in that stream's form; an empty one counts as none. */
export const lastEventId = (form: RegExp) =>
  Schema.String.check(Schema.isPattern(form, { message: "must be the id of an event of this stream" }))

/** A checksum (FNV-1a, 32 bits) that tells a cursor of this list from a damaged one and from one of another list. */
const checksumOf = (list: string, cursor: string): string => {
  let hash = 0x811c9dc5
  for (const char of `${list}:${cursor}`) hash = Math.imul(hash ^ char.charCodeAt(0), 0x01000193) >>> 0
  return hash.toString(36).padStart(7, "0")
}

const checksumLength = 7

/** The text of a cursor on the wire: the place, then a checksum. It is refused if it is damaged or of another list. */
const sealed = (list: string) => {
  const bare = (sealed: string) => sealed.slice(0, -checksumLength - 1)
  const seal = (cursor: string) => `${cursor}-${checksumOf(list, cursor)}`
  const text = Schema.String.check(
    Schema.makeFilter((sealed: string) => sealed === seal(bare(sealed)), {
      message: "must be a next_cursor that this list gave"
    })
  )
  return { text, transformation: SchemaTransformation.transform({ decode: bare, encode: seal }) }
}

/** The cursor of a list of rows. */
export const cursorOf = (list: string) => {
  const { text, transformation } = sealed(list)
  return text.pipe(Schema.decodeTo(Cursor, transformation))
}

/** The cursor of a list of files: the path of the last one. */
export const pathCursorOf = (list: string) => {
  const { text, transformation } = sealed(list)
  return text.pipe(Schema.decodeTo(Schema.String, transformation))
}

/** A whole number in a query, from 1 to `maximum`. */
const upTo = (maximum: number, description: string) => {
  const message = `must be an integer between 1 and ${maximum}`
  return Schema.optionalKey(
    Schema.FiniteFromString.annotate({ message }).check(
      Schema.isInt({ message }),
      Schema.isBetween({ minimum: 1, maximum }, { message, description })
    )
  )
}

/** How many rows of a list to give, and where to continue. */
export const pageOf = (list: string) => ({
  limit: upTo(100, "Rows of the answer"),
  cursor: Schema.optionalKey(cursorOf(list))
})

/** How many files of a directory to give, where to continue, and how many levels to go down. */
export const pageOfFiles = (list: string, without: string) => ({
  limit: upTo(listingLimits.entries, `Entries of the answer; ${without} if left out`),
  cursor: Schema.optionalKey(pathCursorOf(list).annotate({ description: "The `next_cursor` of the page before" })),
  depth: upTo(listingLimits.depth, "Levels below the directory; 1 is its own entries")
})
