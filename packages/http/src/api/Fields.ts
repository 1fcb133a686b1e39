/** Schemas that several endpoints share, with the sentences for invalid values. */
import { AccountId } from "@castellan/domain/identity/Account.ts"
import { Cursor } from "@castellan/domain/Page.ts"
import { Argument } from "@castellan/domain/sandbox/Command.ts"
import { listingLimits } from "@castellan/domain/sandbox/SandboxFile.ts"
import { Duration, Schema, SchemaTransformation } from "effect"

/** A field with its description in openapi.json. */
export const field = <S extends Schema.Top>(schema: S, description: string): S =>
  // The document describes what is on the wire. To annotate the encoded side copies the schema, and with it its identifier.
  (schema.ast.encoding === undefined
    ? schema.annotate({ description })
    : Schema.annotateEncoded({ description })(schema)) as S

/** An optional field of a body; null counts as absent. */
export const absent = <S extends Schema.Top>(schema: S) => Schema.optionalKey(Schema.NullOr(schema))

/** An optional field of a body with its description. */
export const optional = <S extends Schema.Top>(schema: S, description: string) => field(absent(schema), description)

/** Text of at least one character. */
export const Text = Schema.String.check(Schema.isMinLength(1, { message: "must not be empty" }))

/** An argument of a program, of at least one character. */
export const ProgramText = Argument.check(Schema.isMinLength(1, { message: "must not be empty" }))

const isRepositoryUrl = (text: string): boolean => {
  const url = URL.parse(text)
  return url !== null && url.username === "" && url.password === ""
}

/** The URL of a repository, without credentials. */
export const RepositoryUrl = Schema.String.check(
  Schema.isMaxLength(2000, { message: "must be a valid URL" }),
  Schema.makeFilter(isRepositoryUrl, { message: "must be a valid URL" })
)

/** An instant as an ISO 8601 string in UTC, in milliseconds. */
export const Time = Schema.DateTimeUtcFromString

const timeForm = /^(\d{4}-\d\d-\d\d)([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)?)?$/i

/** The latest instant that every database and client can represent. */
const lastMoment = Date.UTC(9999, 11, 31, 23, 59, 59, 999)

const isTime = (text: string): boolean => {
  const day = timeForm.exec(text)?.[1]
  const at = Date.parse(text)
  // Date.parse accepts a day beyond the end of its month and returns a day of the next month.
  return day !== undefined && at <= lastMoment && new Date(Date.parse(day)).toISOString().startsWith(day)
}

/** An instant in a request. */
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

const accountId = "The account that the request is for. By default the caller's own account."

/** The account of a request, in its query. */
export const forAccount = { account_id: field(Schema.optionalKey(AccountId), accountId) }

/** The account of a request, in its body. */
export const forAccountInBody = { account_id: optional(AccountId, accountId) }

/** The status of every success of the sandbox and run endpoints. */
export const success = { status: field(Schema.Literal("success"), "Always `success`.") }

/** The header by which a reader resumes a stream. */
export const lastEventId = (form: RegExp) => ({
  "last-event-id": field(
    Schema.optionalKey(
      Schema.String.check(Schema.isPattern(form, { message: "must be the id of an event of this stream" }))
    ),
    "The id of the last event that the reader received. The stream continues after it. Empty counts as absent."
  )
})

/** A checksum (FNV-1a, 32 bits) by which a damaged cursor, or one of another list, is recognized. */
const checksumOf = (list: string, cursor: string): string => {
  let hash = 0x811c9dc5
  for (const char of `${list}:${cursor}`) hash = Math.imul(hash ^ char.charCodeAt(0), 0x01000193) >>> 0
  return hash.toString(36).padStart(7, "0")
}

const checksumLength = 7

/** A cursor on the wire: the position, then a checksum. */
const sealed = (list: string, description: string) => {
  const bare = (sealed: string) => sealed.slice(0, -checksumLength - 1)
  const seal = (cursor: string) => `${cursor}-${checksumOf(list, cursor)}`
  const text = Schema.String.annotate({ description }).check(
    Schema.makeFilter((sealed: string) => sealed === seal(bare(sealed)), {
      message: "must be a next_cursor that this list returned"
    })
  )
  return { text, transformation: SchemaTransformation.transform({ decode: bare, encode: seal }) }
}

/** The cursor of a list of rows. */
const cursorOf = (list: string, description: string) => {
  const { text, transformation } = sealed(list, description)
  return text.pipe(Schema.decodeTo(Cursor, transformation))
}

/** The cursor of a list of files: the path of the last one. */
const pathCursorOf = (list: string, description: string) => {
  const { text, transformation } = sealed(list, description)
  return text.pipe(Schema.decodeTo(Schema.String, transformation))
}

/** An integer in a query, from 1 to `maximum`. */
const upTo = (maximum: number, description: string) => {
  const message = `must be an integer between 1 and ${maximum}`
  return field(
    Schema.optionalKey(
      Schema.FiniteFromString.annotate({ message }).check(
        Schema.isInt({ message }),
        Schema.isBetween({ minimum: 1, maximum }, { message })
      )
    ),
    description
  )
}

const cursor = "The `next_cursor` of the previous page. By default the first page is listed."

const nextCursor = "The cursor of the next page. Absent on the last page."

/** The page of a list of rows. */
export const pageOf = (list: string, limit = 20) => ({
  limit: upTo(100, `Maximum rows of the page, 1 to 100. Default: ${limit}.`),
  cursor: Schema.optionalKey(cursorOf(list, cursor))
})

/** The cursor of the next page of a list of rows. */
export const nextPageOf = (list: string) => ({ next_cursor: Schema.optionalKey(cursorOf(list, nextCursor)) })

/** The page of a list of files, and how deep to list. */
export const pageOfFiles = (list: string, limit: string, depth: string) => ({
  limit: upTo(listingLimits.entries, `Maximum entries of the page, 1 to ${listingLimits.entries}. Default: ${limit}.`),
  cursor: Schema.optionalKey(pathCursorOf(list, cursor)),
  depth: upTo(
    listingLimits.depth,
    `Levels below the directory, 1 to ${listingLimits.depth}; 1 lists its own entries. Default: ${depth}.`
  )
})

/** The cursor of the next page of a list of files. */
export const nextPageOfFiles = (list: string) => ({
  next_cursor: Schema.optionalKey(pathCursorOf(list, nextCursor))
})
