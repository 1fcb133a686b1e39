/** The OpenAPI document of the API. */
import { OpenApi } from "effect/http-api"
import { Api } from "./Api.ts"

interface Operation {
  readonly security: ReadonlyArray<unknown>
}

export const document = OpenApi.fromApi(Api) as unknown as {
  readonly paths: Record<string, Record<string, Operation>>
}
