/** The OpenAPI document of the API, and where the server serves it. */
import { OpenApi } from "effect/http-api"
import { Api } from "./Api.ts"

interface DescribedOperation {
  readonly security: ReadonlyArray<unknown>
}

export const document = OpenApi.fromApi(Api) as unknown as {
  readonly paths: Record<string, Record<string, DescribedOperation>>
}

/** The path of the document. It is public. */
export const documentPath = "/openapi.json"

/** The path of the page that shows the document. It is public. */
export const pagePath = "/docs"
