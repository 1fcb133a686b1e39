/** The operations of openapi.json, and requests for them by the expectations. */
import { document } from "../../src/api/openapi.ts"
import { type Expectation, expectations, type Thing } from "./expectations.ts"

interface FieldSchema {
  readonly type?: string
  readonly pattern?: string
  readonly enum?: ReadonlyArray<string>
  readonly anyOf?: ReadonlyArray<FieldSchema>
}

interface Parameter {
  readonly name: string
  readonly in: "path" | "query" | "header"
  readonly required: boolean
  readonly schema: FieldSchema
}

interface Declared {
  readonly operationId: string
  readonly parameters: ReadonlyArray<Parameter>
  readonly requestBody?: { readonly content: Record<string, { readonly schema: unknown }> }
}

export interface Operation {
  readonly id: string
  readonly method: string
  readonly path: string
  readonly parameters: ReadonlyArray<Parameter>
  /** The fields of its JSON body; undefined if it has none. */
  readonly fields: Readonly<Record<string, FieldSchema>> | undefined
  /** Whether its body is bytes. */
  readonly takesBytes: boolean
  /** Whether it ignores unknown fields. */
  readonly isLenient: boolean
  readonly expected: Expectation
}

export const operations: ReadonlyArray<Operation> = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).flatMap(([method, operation]) => {
    const { operationId: id, parameters, requestBody } = operation as unknown as Declared
    const expected = expectations[id]
    const json = requestBody?.content["application/json"]?.schema as
      { readonly properties?: Record<string, FieldSchema> } | undefined
    const takesBytes = requestBody?.content["application/octet-stream"] !== undefined
    const fields = json && (json.properties ?? {})
    const isLenient = "x-ignores-unknown-fields" in operation
    return expected === undefined
      ? []
      : [{ id, method: method.toUpperCase(), path, parameters, fields, takesBytes, isLenient, expected }]
  })
)

/** The ids of all operations. Each needs an expectation. */
export const declaredIds: ReadonlyArray<string> = Object.values(document.paths).flatMap((methods) =>
  Object.values(methods).map((operation) => (operation as unknown as Declared).operationId)
)

/** A request in parts, so that each can be made invalid. */
export interface ApiRequest {
  readonly method: string
  readonly path: string
  readonly params: Readonly<Record<string, string>>
  readonly query: Readonly<Record<string, string>>
  /** A string is sent as it is. */
  readonly body: Readonly<Record<string, unknown>> | string | undefined
  readonly headers: Readonly<Record<string, string>>
  /** Whether its response never ends. */
  readonly endless: boolean
}

export const urlOf = ({ params, path, query }: ApiRequest): string => {
  const search = new URLSearchParams(query).toString()
  const filled = path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(params[name] ?? name))
  return search === "" ? filled : `${filled}?${search}`
}

/** Where the request has the field. */
export const placesOf = (
  { fields, parameters }: Operation,
  name: string
): ReadonlyArray<"params" | "query" | "body"> => [
  ...parameters.flatMap((parameter) =>
    parameter.name !== name || parameter.in === "header"
      ? []
      : [parameter.in === "path" ? ("params" as const) : ("query" as const)]
  ),
  ...(fields !== undefined && name in fields ? (["body"] as const) : [])
]

const put = (wanted: ApiRequest, place: "params" | "query" | "body", name: string, value: unknown): ApiRequest => ({
  ...wanted,
  [place]: { ...(wanted[place] as object | undefined), [name]: value }
})

/** The request for the caller's own account. */
export const direct = (operation: Operation, things: Readonly<Record<Thing, string>>): ApiRequest => {
  const { expected, fields, method, path, takesBytes } = operation
  const bare: ApiRequest = {
    method,
    path,
    params: {},
    query: expected.query ?? {},
    body: takesBytes ? "other notes" : (expected.body ?? (fields === undefined ? undefined : {})),
    headers: takesBytes ? { "content-type": "application/octet-stream" } : {},
    endless: expected.endless === true
  }
  return Object.entries(expected.idFields ?? {}).reduce((wanted, [name, thing]) => {
    const [place] = placesOf(operation, name)
    if (place === undefined) throw new Error(`${operation.id} has no ${name}`)
    return put(wanted, place, name, things[thing])
  }, bare)
}

/** The request for the account, once for each place where the operation takes `account_id`; unchanged if it takes none. */
export const through = (
  operation: Operation,
  things: Readonly<Record<Thing, string>>,
  account: string
): ReadonlyArray<ApiRequest> => {
  const wanted = direct(operation, things)
  const places = placesOf(operation, "account_id")
  return places.length === 0 ? [wanted] : places.map((place) => put(wanted, place, "account_id", account))
}

export const takesAccount = (operation: Operation): boolean => placesOf(operation, "account_id").length > 0

export const takesIdempotencyKey = ({ parameters }: Operation): boolean =>
  parameters.some(({ name }) => name === "idempotency-key")

const isUuid = (schema: FieldSchema | undefined): boolean =>
  schema !== undefined && (schema.pattern?.includes("[0-9a-fA-F]{8}") === true || isUuid(schema.anyOf?.[0]))

const kindOf = (schema: FieldSchema): string | undefined => schema.type ?? schema.anyOf?.[0]?.type

/** The request made invalid in every way that openapi.json rules out. */
export const malformed = (operation: Operation, wanted: ApiRequest): ReadonlyArray<readonly [string, ApiRequest]> => {
  const parameters = operation.parameters.flatMap(({ in: where, name, required, schema }) => {
    if (where === "header") return []
    const place = where === "path" ? ("params" as const) : ("query" as const)
    const { [name]: _, ...rest } = wanted[place]
    return [
      ...(isUuid(schema) ? [[`${name} is no UUID`, put(wanted, place, name, "mine")] as const] : []),
      ...(schema.enum === undefined ? [] : [[`${name} is none of those`, put(wanted, place, name, "maybe")] as const]),
      ...(name === "limit" ? [["limit is 0", put(wanted, place, name, "0")] as const] : []),
      ...(name === "cursor" ? [["cursor is none", put(wanted, place, name, "../")] as const] : []),
      ...(place === "query" && required ? [[`${name} is left out`, { ...wanted, query: rest }] as const] : [])
    ]
  })
  const fields = Object.entries(operation.fields ?? {}).flatMap(([name, schema]) => [
    [`${name} is of another kind`, put(wanted, "body", name, kindOf(schema) === "object" ? 7 : {})] as const,
    ...(isUuid(schema) ? [[`${name} is no UUID`, put(wanted, "body", name, "mine")] as const] : [])
  ])
  const whole =
    operation.fields === undefined
      ? []
      : [
          ["the body is no JSON", { ...wanted, body: "{not json" }] as const,
          ["the body is a list", { ...wanted, body: "[1]" }] as const,
          ["the body is text", { ...wanted, body: "{}", headers: { "content-type": "text/plain" } }] as const
        ]
  const headers = takesIdempotencyKey(operation)
    ? [["the idempotency key is too long", { ...wanted, headers: { "idempotency-key": "x".repeat(256) } }] as const]
    : []
  const { exclusiveFields } = operation.expected
  const both = Object.entries(exclusiveFields ?? {}).reduce(
    (one, [name, value]) => put(one, "body", name, value),
    wanted
  )
  const excluded = exclusiveFields === undefined ? [] : [["the fields exclude each other", both] as const]
  return [...parameters, ...fields, ...whole, ...headers, ...excluded]
}
