/** Completes the OpenAPI document with declarations that Effect's generator leaves out. */
import { ignoredFields } from "./KnownFields.ts"
import type { Operation } from "./Operations.ts"

type Json = Record<string, unknown>

interface Described {
  readonly operationId: string
  readonly description?: string
  readonly parameters?: ReadonlyArray<unknown>
  readonly requestBody?: { readonly content?: Record<string, { readonly schema?: Json }> }
  readonly responses: Record<string, Json>
}

interface Generated {
  readonly paths: Record<string, Record<string, Described>>
  readonly components: Json
}

const mapValues = <A, B>(record: Record<string, A>, f: (a: A) => B): Record<string, B> =>
  Object.fromEntries(Object.entries(record).map(([key, value]) => [key, f(value)]))

const idempotencyKey = {
  name: "idempotency-key",
  in: "header",
  required: false,
  description:
    "A key that the caller chooses for this request. A repeated request with the same key within 24 hours gets the first response again.",
  schema: { type: "string", minLength: 1, maxLength: 255 }
}

const errorResponse = (description: unknown) => ({
  description,
  content: { "application/json": { schema: { $ref: "#/components/schemas/Error" } } }
})

/** Every error has the same body, and clients have to expect errors that are not listed. */
const withErrors = (responses: Described["responses"]) => ({
  ...Object.fromEntries(
    Object.entries(responses).map(([status, response]) => [
      status,
      Number(status) < 400 ? response : errorResponse(response["description"])
    ])
  ),
  default: errorResponse("Any other error")
})

/**
 * Properties that Effect's generator adds to every schema: only its own client needs the first, and responses may gain
 * fields.
 */
const isInternal = (key: string, value: unknown) =>
  key === "x-effect-stream" || (key === "additionalProperties" && value === false)

const open = (value: unknown): unknown =>
  Array.isArray(value)
    ? value.map(open)
    : typeof value === "object" && value !== null
      ? Object.fromEntries(
          Object.entries(value)
            .filter(([key, inner]) => !isInternal(key, inner))
            .map(([key, inner]) => [key, open(inner)])
        )
      : value

const bodyOf = ({ requestBody }: Described, { isLenient }: Operation) => {
  if (requestBody === undefined) return {}
  const schema = requestBody.content?.["application/json"]?.schema
  if (schema === undefined) return { requestBody: open(requestBody) }
  return {
    requestBody: {
      required: Array.isArray(schema["required"]) && schema["required"].length > 0,
      content: { "application/json": { schema: isLenient ? open(schema) : schema } }
    }
  }
}

const ignoredFieldsHeader = {
  [ignoredFields]: {
    description: "The body and query fields that this operation does not know and ignored, percent-encoded.",
    schema: { type: "string" }
  }
}

const responsesOf = ({ responses }: Described, { isLenient }: Operation) => {
  const opened = open(withErrors(responses)) as Record<string, Json>
  return isLenient ? mapValues(opened, (response) => ({ ...response, headers: ignoredFieldsHeader })) : opened
}

const completeOperation = (described: Described, operation: Operation) => ({
  ...described,
  ...bodyOf(described, operation),
  ...(described.requestBody === undefined ? {} : { "x-body-limit-bytes": operation.bodyLimit }),
  ...(operation.isLenient ? { "x-ignores-unknown-fields": true } : {}),
  responses: responsesOf(described, operation),
  parameters: operation.isIdempotent ? [...(described.parameters ?? []), idempotencyKey] : (described.parameters ?? [])
})

/** The document as it is served, committed and shown at `/docs`. */
export const complete = (
  generated: Record<string, unknown>,
  operations: ReadonlyArray<Operation>
): Record<string, unknown> => {
  const { components, paths } = generated as unknown as Generated
  const byId = new Map(operations.map((operation) => [operation.id, operation]))
  return {
    ...generated,
    paths: mapValues(paths, (methods) =>
      mapValues(methods, (described) => completeOperation(described, byId.get(described.operationId)!))
    ),
    components: open(components)
  }
}
