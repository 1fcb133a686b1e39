/** Which paths there are, to tell a wrong method from a wrong path. */
import { document } from "./openapi.ts"

/** A path that there is, and what stands in the place of its ids. */
export interface Found {
  readonly route: string
  readonly params: Record<string, string>
}

const nowhere: Found = { route: "none", params: {} }

const isFixed = (route: string) => !route.includes("{")

/** All of them, those first that have no ids. */
const routes = Object.entries({ ...document.paths, "/openapi.json": { get: {} }, "/docs": { get: {} } })
  .toSorted(([a], [b]) => Number(isFixed(b)) - Number(isFixed(a)))
  .map(([route, methods]) => ({
    route,
    methods: Object.keys(methods).map((method) => method.toUpperCase()),
    pattern: new RegExp(`^${route.replace(/\/+$/, "").replace(/\{(\w+)\}/g, "(?<$1>[^/]+)")}/?$`)
  }))

/** The route that the URL is for, as the API's description has it. */
export const routeOf = (url: string): Found => {
  const path = url.split(/[?#]/, 1)[0]!
  for (const { pattern, route } of routes) {
    const match = pattern.exec(path)
    if (match !== null) return { route, params: { ...match.groups } }
  }
  return nowhere
}

/** The methods that the path of the URL takes; none where there is no such path. */
export const methodsAt = (url: string): ReadonlyArray<string> => {
  const path = url.split(/[?#]/, 1)[0]!
  const methods = routes.find(({ pattern }) => pattern.test(path))?.methods ?? []
  return methods.length === 0 ? [] : [...methods.toSorted(), ...(methods.includes("GET") ? ["HEAD"] : []), "OPTIONS"]
}
