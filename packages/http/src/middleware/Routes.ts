/** Finds the route of a URL in the API's description, which tells a wrong method from a wrong path. */
import { FindMyWay, type HttpRouter } from "effect/http"
import { document } from "../api/openapi.ts"

/** A route, as the API's description writes it, and the values of its parameters. */
export interface Found {
  readonly route: string
  readonly params: Readonly<Record<string, string | undefined>>
}

const nowhere: Found = { route: "none", params: {} }

/** How the server's router and this table match paths. An id of any length is left to its handler, which finds nothing. */
export const routerConfig = {
  ignoreTrailingSlash: true,
  maxParamLength: Number.MAX_SAFE_INTEGER
} satisfies Partial<FindMyWay.RouterConfig>

interface Route {
  readonly route: string
  readonly methods: ReadonlyArray<string>
}

/** All routes under one method: a fixed path goes before one with a parameter, whatever methods each of them takes. */
const table = FindMyWay.make<Route>(routerConfig)
for (const [route, operations] of Object.entries({
  ...document.paths,
  "/openapi.json": { get: {} },
  "/docs": { get: {} }
})) {
  const methods = Object.keys(operations).map((method) => method.toUpperCase())
  table.on("GET", route.replaceAll(/\{(\w+)\}/g, ":$1") as HttpRouter.PathInput, { route, methods })
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

/** The route that the URL is for. */
export const routeOf = (url: string): Found => {
  const found = isWellEncoded(url) ? table.find("GET", url) : undefined
  return found === undefined ? nowhere : { route: found.handler.route, params: found.params }
}

/** The methods that the path of the URL takes; none if there is no such path. */
export const methodsAt = (url: string): ReadonlyArray<string> => {
  const methods = table.find("GET", url)?.handler.methods ?? []
  return methods.length === 0 ? [] : [...methods.toSorted(), ...(methods.includes("GET") ? ["HEAD"] : []), "OPTIONS"]
}
