/** Which paths there are, to tell a wrong method from a wrong path. */
import { document } from "./openapi.ts"

const patternOf = (path: string) => new RegExp(`^${path.replace(/\/+$/, "").replace(/\{\w+\}/g, "[^/]+")}/?$`)

const known = [
  ...Object.entries(document.paths).map(([path, methods]) => ({
    pattern: patternOf(path),
    methods: Object.keys(methods).map((method) => method.toUpperCase())
  })),
  { pattern: /^\/(openapi\.json|docs)\/?$/, methods: ["GET"] }
]

/** A path that there is, and what stands in the place of its ids. */
export interface Found {
  readonly route: string
  readonly params: Record<string, string>
}

const nowhere: Found = { route: "none", params: {} }

const isFixed = (route: string) => !route.includes("{")

const routes = [...Object.keys(document.paths), "/openapi.json", "/docs"]
  .toSorted((a, b) => Number(isFixed(b)) - Number(isFixed(a)))
  .map((route) => ({
    route,
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
  const methods = known.find(({ pattern }) => pattern.test(path))?.methods ?? []
  return methods.length === 0 ? [] : [...methods.toSorted(), ...(methods.includes("GET") ? ["HEAD"] : []), "OPTIONS"]
}
