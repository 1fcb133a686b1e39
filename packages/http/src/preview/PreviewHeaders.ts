/** What of the heads of requests and answers passes between a browser and an app. */
import type { IncomingMessage } from "node:http"

type Fields = Record<string, string | Array<string>>

/** They speak of one connection only; `upgrade` and what frames a body are set anew. */
const perConnection = [
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

/** What is meant for the API, which may share a parent domain with the apps, and what is said anew. */
const notForApps = new Set([
  ...perConnection,
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

/** What an app could do to hosts beside or above its own, or to the way that leads to them. */
const notFromApps = new Set([
  ...perConnection,
  "alt-svc",
  "clear-site-data",
  "set-cookie",
  "set-cookie2",
  "strict-transport-security",
  "www-authenticate"
])

const fieldsOf = ({ headersDistinct }: IncomingMessage, dropped: ReadonlySet<string>): Fields => {
  const named = new Set(
    (headersDistinct["connection"] ?? []).flatMap((value) => value.split(",")).map((one) => one.trim().toLowerCase())
  )
  const fields: Fields = {}
  for (const [name, values] of Object.entries(headersDistinct)) {
    if (!dropped.has(name) && !named.has(name)) fields[name] = values!
  }
  return fields
}

/** Whether a request has a body, by its head. */
export const hasBody = ({ headers }: IncomingMessage): boolean =>
  headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0

const originOf = (url: string): string | undefined => (URL.canParse(url) ? new URL(url).origin : undefined)

/** The head of a request as the app is given it, which is told to be `host` itself. */
export const toApp = (request: IncomingMessage, protocol: string, host: string, isUpgrade: boolean): Fields => {
  const { headers } = request
  const { host: asked = "" } = headers
  const address = request.socket.remoteAddress?.replace(/^::ffff:/, "")
  const chain = [...(request.headersDistinct["x-forwarded-for"] ?? []), ...(address === undefined ? [] : [address])]
  const fields: Fields = {
    host,
    ...fieldsOf(request, notForApps),
    "x-forwarded-for": chain.join(", "),
    "x-forwarded-host": asked,
    "x-forwarded-proto": protocol
  }
  if (isUpgrade) {
    fields["connection"] = "upgrade"
    fields["upgrade"] = headers.upgrade!
    // A dev server takes web sockets from its own pages only, and knows them by the host that it is told to be.
    const isOwn = headers.origin !== undefined && originOf(headers.origin) === originOf(`${protocol}://${asked}`)
    if (isOwn) fields["origin"] = `http://${host}`
  } else if (headers["transfer-encoding"] !== undefined) {
    fields["transfer-encoding"] = headers["transfer-encoding"]
  } else if (hasBody(request)) {
    fields["content-length"] = headers["content-length"]!
  }
  return fields
}

/** The head of an app's answer as the browser is given it. */
export const fromApp = (answer: IncomingMessage): Fields => {
  const fields = fieldsOf(answer, notFromApps)
  if (answer.statusCode === 204) delete fields["content-length"]
  return { "x-robots-tag": "noindex", "referrer-policy": "no-referrer", ...fields }
}
