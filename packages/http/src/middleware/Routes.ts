/** Matches URLs and methods to the operations of the API, and distinguishes a wrong method from a wrong path. */
import { FindMyWay, type HttpRouter } from "effect/http"
import { operations } from "../api/Api.ts"
import { documentPath, pagePath } from "../api/openapi.ts"
import type { Operation } from "../api/Operations.ts"

/** How the server's router and this table match paths. An id may have any length: its handler finds nothing for a wrong one. */
export const routerConfig = {
  ignoreTrailingSlash: true,
  maxParamLength: Number.MAX_SAFE_INTEGER
} satisfies Partial<FindMyWay.RouterConfig>

interface Route {
  readonly path: string
  /** The operations at the path by method; undefined for a path that is served but is no operation. */
  readonly operations: ReadonlyMap<string, Operation | undefined>
}

const routes = new Map<string, Map<string, Operation | undefined>>([
  [documentPath, new Map([["GET", undefined]])],
  [pagePath, new Map([["GET", undefined]])]
])
for (const operation of operations) {
  const methods = routes.get(operation.path) ?? new Map<string, Operation | undefined>()
  routes.set(operation.path, methods.set(operation.method, operation))
}

/** All routes under one method, so that a fixed path wins over one with a parameter, whichever methods they take. */
const table = FindMyWay.make<Route>(routerConfig)
for (const [path, methods] of routes) {
  table.on("GET", path.replaceAll(/\{(\w+)\}/g, ":$1") as HttpRouter.PathInput, { path, operations: methods })
}

/** Whether the path of the URL is percent-encoded UTF-8. */
export const isWellEncoded = (url: string): boolean => {
  try {
    decodeURIComponent(url.split("?", 1)[0]!)
    return true
  } catch {
    return false
  }
}

const find = (url: string) => (isWellEncoded(url) ? table.find("GET", url) : undefined)

/** A route, as openapi.json writes it, and the values of its parameters. */
export interface Found {
  readonly route: string
  readonly params: Readonly<Record<string, string | undefined>>
}

/** The route of the URL; `none` if there is no such path. */
export const routeOf = (url: string): Found => {
  const found = find(url)
  return found === undefined ? { route: "none", params: {} } : { route: found.handler.path, params: found.params }
}

/** The operation that answers the method at the URL. */
export const operationAt = (method: string, url: string): Operation | undefined =>
  find(url)?.handler.operations.get(method)

/** The methods that the path of the URL takes; none if there is no such path. */
export const methodsAt = (url: string): ReadonlyArray<string> => {
  const methods = [...(find(url)?.handler.operations.keys() ?? [])]
  return methods.length === 0 ? [] : [...methods.toSorted(), ...(methods.includes("GET") ? ["HEAD"] : []), "OPTIONS"]
}
