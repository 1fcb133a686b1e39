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

/** The methods that the path of the URL takes; none where there is no such path. */
export const methodsAt = (url: string): ReadonlyArray<string> => {
  const path = url.split(/[?#]/, 1)[0]!
  const methods = known.find(({ pattern }) => pattern.test(path))?.methods ?? []
  return methods.length === 0 ? [] : [...methods.toSorted(), ...(methods.includes("GET") ? ["HEAD"] : []), "OPTIONS"]
}
