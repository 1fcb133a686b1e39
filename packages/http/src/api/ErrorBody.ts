import { FailureCode, type FailureReason } from "@castellan/domain/FailureReason.ts"
import { Schema } from "effect"

/** The one body of every error, on every status. */
export const ErrorBody = Schema.Struct({
  status: Schema.Literal("error"),
  success: Schema.Literal(false),
  /** One stable sentence for a person. */
  error: Schema.String,
  /** The same for a program. */
  code: Schema.String,
  /** What a program said that the caller asked to run, cut and cleaned. */
  detail: Schema.optionalKey(Schema.String),
  /** Why it failed, in one sentence, where `error` is the same for several reasons. */
  reason: Schema.optionalKey(Schema.String),
  /** The code of `reason`, for a program. */
  reasonCode: Schema.optionalKey(FailureCode),
  /** The paths of the fields that are missing or invalid, such as `args.0`. */
  missing_fields: Schema.optionalKey(Schema.Array(Schema.String)),
  /** How long to wait before asking again is worth it, in milliseconds. */
  retryAfterMs: Schema.optionalKey(Schema.Int)
}).annotate({ identifier: "Error" })
export type ErrorBody = typeof ErrorBody.Type

export const errorBody = (
  code: string,
  error: string,
  more: Pick<ErrorBody, "detail" | "missing_fields" | "reason" | "reasonCode" | "retryAfterMs"> = {}
): ErrorBody => ({ status: "error", success: false, error, code, ...more })

/** The fields that tell a reason. */
export const told = ({ code, retryAfterMs, sentence }: FailureReason): Parameters<typeof errorBody>[2] => ({
  reason: sentence,
  reasonCode: code,
  ...(retryAfterMs === null ? {} : { retryAfterMs })
})
