/** Declares how an error is encoded on the wire, and decodes it again in a client. */
import { Data, Effect, Predicate, Schema, SchemaGetter, SchemaIssue } from "effect"
import { HttpApiSchema } from "effect/http-api"
import { ErrorBody, errorBody, type ErrorDetails } from "./ErrorBody.ts"

/**
 * An error of the API. On the server it is an error of the domain, which has facts that no caller may see. In a client it
 * has the response's `body` instead, and the same tag.
 */
export interface ApiError<Tag extends string> {
  readonly _tag: Tag
  readonly message: string
  /** The response body; undefined on the server. */
  readonly body?: ErrorBody | undefined
}

/** An error that a client decoded. */
class DecodedError extends Data.Error<{ readonly _tag: string; readonly body: ErrorBody }> {
  override get name() {
    return this._tag
  }

  override get message() {
    return this.body.error
  }
}

/** The wire form of one error. */
export interface WireForm<E> {
  readonly status: number
  /** The code; a function if it depends on the failure. */
  readonly code: string | ((error: E) => string)
  /** The sentence; a function if it contains facts of the failure. */
  readonly error: string | ((error: E) => string)
  /** Further fields of the body. */
  readonly details?: ErrorDetails | ((error: E) => ErrorDetails)
  /** The description in openapi.json; the sentence by default. */
  readonly summary?: string
  /**
   * Whether a response body is this error; by default if it has the code. Required for errors of one operation with the
   * same code.
   */
  readonly matches?: (body: ErrorBody) => boolean
}

const evaluate = <A, E>(value: A | ((error: E) => A), error: E): A =>
  typeof value === "function" ? (value as (error: E) => A)(error) : value

/** The schema of an error class in its wire form. */
export const onWire = <E extends { readonly _tag: string; readonly message: string }>(
  Class: Schema.Codec<E, unknown> & { readonly identifier: string },
  form: WireForm<E>
) => {
  const { code, details = {}, error: sentence, status } = form
  const tag = Class.identifier
  const toBody = (error: E): ErrorBody =>
    errorBody(evaluate(code, error), evaluate(sentence, error), evaluate(details, error))
  const matches = form.matches ?? ((body: ErrorBody) => body.code === code)
  const summary = form.summary ?? String(sentence)
  const schema = ErrorBody.pipe(
    Schema.decodeTo(
      Schema.declare((value): value is ApiError<E["_tag"]> => Predicate.isTagged(value, tag)),
      {
        decode: SchemaGetter.transformEffect((body, options) =>
          matches(body)
            ? Effect.succeed(new DecodedError({ _tag: tag, body }) as ApiError<E["_tag"]>)
            : Effect.fail(new SchemaIssue.InvalidValue({ message: `is not ${tag}` }, body, options))
        ),
        encode: SchemaGetter.transform((error) => toBody(error as E))
      }
    ),
    HttpApiSchema.status(status)
  )
  return Object.assign(
    schema.annotate({ description: typeof code === "string" ? `${summary} (\`${code}\`)` : summary }),
    { Class, status, tag, toBody }
  )
}
