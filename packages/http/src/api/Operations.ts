/** The operations of the API with everything that is declared about them: the source of routes, limits and openapi.json. */
import { Context, type Schema } from "effect"
import { HttpApi, type HttpApiGroup } from "effect/http-api"
import { Authenticated } from "./Authenticated.ts"
import { BodyLimit } from "./BodyLimit.ts"
import { Idempotent } from "./Idempotent.ts"
import { Lenient } from "./KnownFields.ts"

export interface Operation {
  /** Group and endpoint, such as `sandboxes.create`; the `operationId` in openapi.json. */
  readonly id: string
  readonly method: string
  /** The path as openapi.json writes it, such as `/api/sessions/{id}`. */
  readonly path: string
  /** Whether it needs no credential. */
  readonly isPublic: boolean
  /** Whether it takes an `Idempotency-Key`. */
  readonly isIdempotent: boolean
  /** Whether it ignores unknown fields. */
  readonly isLenient: boolean
  /** The largest request body, in bytes. */
  readonly bodyLimit: number
  /** The media type of its request body; JSON if it takes none, since an empty JSON object is accepted everywhere. */
  readonly mediaType: string
  /** The schemas of its errors, by status. */
  readonly errors: ReadonlyMap<number, ReadonlyArray<Schema.Top>>
}

/** The operations of an API, in the order of their declaration. */
export const operationsOf = <Groups extends HttpApiGroup.Constraint>(
  api: HttpApi.HttpApi<string, Groups>
): ReadonlyArray<Operation> => {
  const operations: Array<Operation> = []
  HttpApi.reflect(api, {
    onGroup: () => {},
    onEndpoint: ({ endpoint, errors, group, mergedAnnotations, middleware }) => {
      const has = (service: { readonly key: string }) => [...middleware].some(({ key }) => key === service.key)
      const [mediaType = "application/json"] = endpoint.payload.keys()
      operations.push({
        id: `${group.identifier}.${endpoint.identifier}`,
        method: endpoint.method,
        path: endpoint.path.replaceAll(/:(\w+)/g, "{$1}"),
        isPublic: !has(Authenticated),
        isIdempotent: has(Idempotent),
        isLenient: Context.get(mergedAnnotations, Lenient),
        bodyLimit: Context.get(mergedAnnotations, BodyLimit),
        mediaType,
        errors
      })
    }
  })
  return operations
}
