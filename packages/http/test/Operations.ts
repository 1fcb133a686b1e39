/** The operations of openapi.json with the JSON schemas of their requests, and a check of error responses. */
import { Result, Schema } from "effect"
import { document } from "../src/api/openapi.ts"
import { operationAt } from "../src/middleware/Routes.ts"

/** A JSON schema, as far as openapi.json uses it. */
export interface JsonSchema {
  readonly $ref?: string
  readonly type?: string
  readonly enum?: ReadonlyArray<string>
  readonly anyOf?: ReadonlyArray<JsonSchema>
  readonly properties?: Readonly<Record<string, JsonSchema>>
  readonly required?: ReadonlyArray<string>
  readonly additionalProperties?: JsonSchema | boolean
  readonly items?: JsonSchema
  readonly pattern?: string
  readonly format?: string
  readonly minLength?: number
  readonly maxLength?: number
  readonly minItems?: number
  readonly maxItems?: number
  readonly minimum?: number
  readonly maximum?: number
}

export interface Parameter {
  readonly name: string
  readonly in: "path" | "query" | "header"
  readonly required: boolean
  readonly schema: JsonSchema
}

interface Media {
  readonly schema: JsonSchema
}

export interface Operation {
  readonly id: string
  readonly method: string
  readonly path: string
  readonly parameters: ReadonlyArray<Parameter>
  /** The schema of its JSON body; undefined if it has none. */
  readonly body: JsonSchema | undefined
  /** Whether its body is bytes. */
  readonly takesBytes: boolean
  /** Whether it ignores unknown fields. */
  readonly isLenient: boolean
  readonly isPublic: boolean
  readonly responses: Readonly<Record<string, { readonly content?: Readonly<Record<string, Media>> }>>
}

interface Described {
  readonly operationId: string
  readonly parameters: ReadonlyArray<Parameter>
  readonly requestBody?: { readonly content: Readonly<Record<string, Media>> }
  readonly responses: Operation["responses"]
  readonly security: ReadonlyArray<unknown>
}

export const operations: ReadonlyArray<Operation> = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => {
    const described = operation as unknown as Described
    return {
      id: described.operationId,
      method: method.toUpperCase(),
      path,
      parameters: described.parameters,
      body: described.requestBody?.content["application/json"]?.schema,
      takesBytes: described.requestBody?.content["application/octet-stream"] !== undefined,
      isLenient: "x-ignores-unknown-fields" in operation,
      isPublic: described.security.length === 0,
      responses: described.responses
    }
  })
)

export const uuid = "3c90c3cc-0d44-4b50-8888-8dd25736052a"

/** The schema without the `null` of optional fields. */
export const bare = (schema: JsonSchema): JsonSchema => schema.anyOf?.find(({ type }) => type !== "null") ?? schema

/** The smallest value that fits the schema. */
export const sample = (given: JsonSchema): unknown => {
  const schema = bare(given)
  if (schema.enum !== undefined) return schema.enum[0]
  switch (schema.type) {
    case "string":
      return schema.format === "uuid" ? uuid : "x"
    case "integer":
      return schema.minimum ?? 0
    case "boolean":
      return false
    case "array":
      return Array.from({ length: schema.minItems ?? 0 }, () => sample(schema.items ?? {}))
    default:
      return Object.fromEntries((schema.required ?? []).map((name) => [name, sample(schema.properties?.[name] ?? {})]))
  }
}

/** The operation's URL, with a sample of every required parameter. */
export const urlOf = (
  { parameters, path }: Operation,
  query: ReadonlyArray<readonly [string, string]> = [],
  params: Readonly<Record<string, string>> = {}
): string => {
  const at = path.replaceAll(/\{(\w+)\}/g, (_, name: string) => {
    const parameter = parameters.find((one) => one.in === "path" && one.name === name)!
    return params[name] ?? String(sample(parameter.schema))
  })
  const named = new Set(query.map(([name]) => name))
  const needed = parameters.flatMap((one): ReadonlyArray<readonly [string, string]> =>
    one.in === "query" && one.required && !named.has(one.name) ? [[one.name, String(sample(one.schema))]] : []
  )
  const search = [...needed, ...query].map(
    ([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`
  )
  return search.length === 0 ? at : `${at}?${search.join("&")}`
}

/** Whether the operation at the URL declares the error response; true where there is no operation. */
export const isDeclaredError = (method: string, url: string, status: number, body: unknown): boolean => {
  const operation = operationAt(method, url)
  if (operation === undefined) return true
  const schemas = (operation.errors.get(status) ?? []) as ReadonlyArray<Schema.Codec<unknown>>
  return schemas.some((schema) => Result.isSuccess(Schema.decodeUnknownResult(schema)(body)))
}
