import { ignoredFields, lenientMark } from "./KnownFields.ts"

/** What the declarations can't say of themselves, added to the OpenAPI document that is made from them. */
const securitySchemes = {
  apiKey: { type: "apiKey", in: "header", name: "x-api-key" },
  bearer: { type: "http", scheme: "bearer", description: "An API key, or a JWT of the configured identity provider" }
}

const idempotencyKey = {
  name: "idempotency-key",
  in: "header",
  required: false,
  description: "Asking again under the same key within 24 hours gives the first answer again.",
  schema: { type: "string", minLength: 1, maxLength: 255 }
}

const creates = new Set([
  "sandboxes.create",
  "sandboxes.setup",
  "sandbox.run",
  "sandbox.snapshot",
  "sandbox.fork",
  "sessions.create",
  "sessions.run",
  "sessionSandbox.open",
  "apps.create",
  "keys.issue",
  "accounts.create",
  "organizations.create",
  "organizations.invite"
])

type Json = Record<string, unknown>

interface Operation {
  readonly operationId: string
  readonly parameters?: ReadonlyArray<unknown>
  readonly requestBody?: Json
  readonly responses: Record<string, Json>
}

const mapValues = <A, B>(record: Record<string, A>, f: (a: A) => B): Record<string, B> =>
  Object.fromEntries(Object.entries(record).map(([key, value]) => [key, f(value)]))

const errorResponse = (description: string) => ({
  description,
  content: { "application/json": { schema: { $ref: "#/components/schemas/Error" } } }
})

const statuses: Record<string, string> = {
  400: "The request has not the form it should have",
  401: "No credential, two, or one that is not good",
  403: "The caller may not do this",
  404: "There is no such thing, or it is not the caller's",
  409: "Something else is going on",
  422: "The idempotency key was used for another request",
  502: "The sandbox provider did not do it",
  503: "A part the server needs does not answer"
}

const withErrors = (responses: Operation["responses"]) => ({
  ...Object.fromEntries(
    Object.entries(responses).map(([status, response]) =>
      Number(status) < 400 ? [status, response] : [status, errorResponse(statuses[status] ?? "An error")]
    )
  ),
  default: errorResponse("Any other error")
})

const isLenient = (operation: Operation) => lenientMark in operation

/** What Effect says of every schema: our own client needs it, and answers gain fields without notice. */
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

const bodyOf = (operation: Operation) => {
  const schema = (operation.requestBody as { content?: { "application/json"?: { schema?: Json } } } | undefined)
    ?.content?.["application/json"]?.schema
  if (schema === undefined)
    return operation.requestBody === undefined ? {} : { requestBody: open(operation.requestBody) }
  return {
    requestBody: {
      required: Array.isArray(schema["required"]) && schema["required"].length > 0,
      content: { "application/json": { schema: isLenient(operation) ? open(schema) : schema } }
    }
  }
}

const ignored = {
  [ignoredFields]: {
    description: "The body and query fields that this operation does not know, percent-encoded. It ignored them.",
    schema: { type: "string" }
  }
}

const responsesOf = (operation: Operation) => {
  const responses = open(withErrors(operation.responses)) as Record<string, Json>
  return isLenient(operation) ? mapValues(responses, (response) => ({ ...response, headers: ignored })) : responses
}

const isOpen = (operation: Operation) => operation.operationId.startsWith("system.")

const completeOperation = (operation: Operation) => ({
  ...operation,
  ...bodyOf(operation),
  responses: responsesOf(operation),
  security: isOpen(operation) ? [] : [{ apiKey: [] }, { bearer: [] }],
  parameters: creates.has(operation.operationId)
    ? [...(operation.parameters ?? []), idempotencyKey]
    : (operation.parameters ?? [])
})

interface Made {
  readonly paths: Record<string, Record<string, Operation>>
  readonly components?: Json
}

/** The document as it is served, committed and tried out. */
export const complete = (made: Record<string, unknown>): Record<string, unknown> => {
  const { components, paths } = made as unknown as Made
  return {
    ...made,
    paths: mapValues(paths, (methods) => mapValues(methods, completeOperation)),
    components: { ...(open(components) as Json), securitySchemes }
  }
}
