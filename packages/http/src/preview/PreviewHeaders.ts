/** Header filtering between browser and app. */
import type { IncomingMessage } from "node:http"

type HeaderFields = Record<string, string | Array<string>>

/** Hop-by-hop headers. `upgrade` and the headers that frame a body are set again below. */
const hopByHop = [
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade"
]

/** Credentials for the API, whose host may share a parent domain with the apps, and headers that the proxy sets itself. */
const droppedFromRequests = new Set([
  ...hopByHop,
  "authorization",
  "cookie",
  "idempotency-key",
  "x-api-key",
  "x-request-id",
  "content-length",
  "expect",
  "forwarded",
  "host",
  "x-forwarded-for",
  "x-forwarded-host",
  "x-forwarded-proto"
])

/** HeaderFields by which an app could affect other hosts of its parent domain, or the connection to them. */
const droppedFromResponses = new Set([
  ...hopByHop,
  "alt-svc",
  "clear-site-data",
  "set-cookie",
  "set-cookie2",
  "strict-transport-security",
  "www-authenticate"
])

/** All headers but those in `dropped` and those that the Connection header lists. */
const without = ({ headersDistinct }: IncomingMessage, dropped: ReadonlySet<string>): HeaderFields => {
  const listed = new Set(
    (headersDistinct["connection"] ?? []).flatMap((value) => value.split(",")).map((one) => one.trim().toLowerCase())
  )
  const fields: HeaderFields = {}
  for (const [name, values] of Object.entries(headersDistinct)) {
    if (!dropped.has(name) && !listed.has(name)) fields[name] = values!
  }
  return fields
}

/** Whether a request's headers announce a body. */
export const hasBody = ({ headers }: IncomingMessage): boolean =>
  headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0

const originOf = (url: string): string | undefined => (URL.canParse(url) ? new URL(url).origin : undefined)

/** HeaderFields of the request to the app, with `host` as the Host. */
export const requestHeaders = (
  request: IncomingMessage,
  protocol: string,
  host: string,
  isUpgrade: boolean
): HeaderFields => {
  const { headers } = request
  const { host: requestedHost = "" } = headers
  const address = request.socket.remoteAddress?.replace(/^::ffff:/, "")
  const chain = [...(request.headersDistinct["x-forwarded-for"] ?? []), ...(address === undefined ? [] : [address])]
  const fields: HeaderFields = {
    host,
    ...without(request, droppedFromRequests),
    "x-forwarded-for": chain.join(", "),
    "x-forwarded-host": requestedHost,
    "x-forwarded-proto": protocol
  }
  if (isUpgrade) {
    fields["connection"] = "upgrade"
    fields["upgrade"] = headers.upgrade!
    // A dev server accepts web sockets only from its own origin, which it derives from its Host.
    const isSameOrigin =
      headers.origin !== undefined && originOf(headers.origin) === originOf(`${protocol}://${requestedHost}`)
    if (isSameOrigin) fields["origin"] = `http://${host}`
  } else if (headers["transfer-encoding"] !== undefined) {
    fields["transfer-encoding"] = headers["transfer-encoding"]
  } else if (hasBody(request)) {
    fields["content-length"] = headers["content-length"]!
  }
  return fields
}

/** HeaderFields of the response to the browser. */
export const responseHeaders = (answer: IncomingMessage): HeaderFields => {
  const fields = without(answer, droppedFromResponses)
  if (answer.statusCode === 204) delete fields["content-length"]
  return { "x-robots-tag": "noindex", "referrer-policy": "no-referrer", ...fields }
}
