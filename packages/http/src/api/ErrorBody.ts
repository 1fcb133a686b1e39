/** The body of every error response, and its constructor. */
import { FailureCode, type FailureReason } from "@castellan/domain/FailureReason.ts"
import { Schema } from "effect"

/** The body of every error, on every status. */
export const ErrorBody = Schema.Struct({
  status: Schema.Literal("error").annotate({ description: "Always `error`." }),
  success: Schema.Literal(false).annotate({ description: "Always `false`." }),
  error: Schema.String.annotate({ description: "What went wrong, as one stable sentence." }),
  code: Schema.String.annotate({ description: "What went wrong, as a stable code for programs." }),
  detail: Schema.optionalKey(
    Schema.String.annotate({
      description: "Output of the program that failed, shortened and without control characters."
    })
  ),
  reason: Schema.optionalKey(
    Schema.String.annotate({ description: "Why it failed, as one sentence, where one `error` has several causes." })
  ),
  reasonCode: Schema.optionalKey(FailureCode.annotate({ description: "The code of `reason`, for programs." })),
  missing_fields: Schema.optionalKey(
    Schema.Array(Schema.String).annotate({
      description: "The paths of the missing or invalid fields, such as `args.0`; at most 100."
    })
  ),
  retryAfterMs: Schema.optionalKey(
    Schema.Int.annotate({
      description: "How long to wait before another attempt, in milliseconds. Absent if another attempt won't help."
    })
  )
}).annotate({ identifier: "Error" })
export type ErrorBody = typeof ErrorBody.Type

/** The fields that only some errors have. */
export type ErrorDetails = Pick<ErrorBody, "detail" | "missing_fields" | "reason" | "reasonCode" | "retryAfterMs">

export const errorBody = (code: string, error: string, details: ErrorDetails = {}): ErrorBody => ({
  status: "error",
  success: false,
  error,
  code,
  ...details
})

/** The fields that carry a failure reason. */
export const reasonDetails = ({ code, retryAfterMs, sentence }: FailureReason): ErrorDetails => ({
  reason: sentence,
  reasonCode: code,
  ...(retryAfterMs === null ? {} : { retryAfterMs })
})
