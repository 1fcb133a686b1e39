/** The forms that fields take on the wire, and what is said of those that don't have it. */
import { AccountId } from "@castellan/domain/identity/Account.ts"
import { Cursor } from "@castellan/domain/Page.ts"
import { Argument } from "@castellan/domain/sandbox/Command.ts"
import { Duration, Schema } from "effect"

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

const limitMessage = "must be an integer between 1 and 100"

/** How much of a list to give, and from where. */
export const page = {
  limit: Schema.optionalKey(
    Schema.FiniteFromString.annotate({ message: limitMessage }).check(
      Schema.isInt({ message: limitMessage }),
      Schema.isBetween({ minimum: 1, maximum: 100 }, { message: limitMessage })
    )
  ),
  cursor: Schema.optionalKey(Cursor)
}
