/** The operations of the API: their types from its declaration, their methods and paths from its openapi.json. */
import type { Api } from "@castellan/http/api/Api.ts"
import { createRequire } from "node:module"
import type { Schema } from "effect"
import type { HttpApiEndpoint, HttpApiSchema } from "effect/http-api"

// The declaration is imported for its types alone: its schemas would take longer to load than most commands to run.
type Groups = (typeof Api)["groups"]

/** Group and endpoint, such as `sandboxes.create`. */
export type OperationId = {
  readonly [Group in keyof Groups & string]: `${Group}.${keyof Groups[Group]["endpoints"] & string}`
}[keyof Groups & string]

type EndpointOf<Id extends OperationId> = Id extends `${infer Group}.${infer Endpoint}`
  ? Group extends keyof Groups
    ? Endpoint extends keyof Groups[Group]["endpoints"]
      ? Groups[Group]["endpoints"][Endpoint]
      : never
    : never
  : never

type EncodedSuccess<Success> = Success extends Schema.toCodecJson<infer Body> ? Body["Encoded"] : never

/** The JSON of the operation's success. */
export type ResponseOf<Id extends OperationId> = EncodedSuccess<HttpApiEndpoint.Success<EndpointOf<Id>>>

type Streamed<Success> =
  Success extends HttpApiSchema.StreamSse<infer _Events, infer _Error, infer Event> ? Event : never

/** The events of the operation's stream, with decoded data. */
export type EventOf<Id extends OperationId> = Streamed<HttpApiEndpoint.Success<EndpointOf<Id>>>

/** The parameters in the operation's path. */
export type ParamsOf<Id extends OperationId> = {
  readonly [Name in keyof HttpApiEndpoint.Params<EndpointOf<Id>>["Type"]]: string
}

/** The rows of responses that several commands show. */
export type Sandbox = ResponseOf<"sandboxes.list">["sandboxes"][number]
export type Run = ResponseOf<"runs.list">["runs"][number]

/** The alternatives of a response that a request can rule out: a command without `wait`, and the two kinds of status. */
export type StartedRun<Id extends OperationId> = Extract<ResponseOf<Id>, { readonly runId: unknown }>
export type SessionStatus = Extract<ResponseOf<"sessionSandbox.status">, { readonly lifecycle: unknown }>
export type AppStatus = Exclude<ResponseOf<"sessionSandbox.status">, SessionStatus>

export interface Operation {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE"
  /** The path with its parameters, such as `/api/sessions/{id}`. */
  readonly path: string
  /** Whether it needs no API key. */
  readonly isPublic: boolean
  /** Whether it takes an idempotency key. */
  readonly isIdempotent: boolean
}

interface Document {
  readonly paths: Readonly<
    Record<
      string,
      Readonly<
        Record<
          string,
          {
            readonly operationId: OperationId
            readonly security: ReadonlyArray<unknown>
            readonly parameters: ReadonlyArray<{ readonly name: string }>
          }
        >
      >
    >
  >
}

const read = (): ReadonlyMap<OperationId, Operation> => {
  const { paths } = createRequire(import.meta.url)("@castellan/http/openapi.json") as Document
  return new Map(
    Object.entries(paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, { operationId, parameters, security }]) => [
        operationId,
        {
          method: method.toUpperCase() as Operation["method"],
          path,
          isPublic: security.length === 0,
          isIdempotent: parameters.some(({ name }) => name === "idempotency-key")
        }
      ])
    )
  )
}

let operations: ReadonlyMap<OperationId, Operation> | undefined

export const operationOf = (id: OperationId): Operation => (operations ??= read()).get(id)!
