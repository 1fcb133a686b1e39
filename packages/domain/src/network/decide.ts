/** Decides which connections and HTTP requests a network policy allows. The gateway asks for each one. */
import { Data } from "effect"
import type { HeaderValue, NetworkPolicy, NetworkRule } from "./NetworkPolicy.ts"

/** A connection that a sandbox opens, by the host name that it resolved. */
export interface Attempt {
  /** In lower case, without a final dot. */
  readonly host: string
  readonly port: number
}

/** An HTTP request on a connection that the gateway reads. */
export interface RequestAttempt extends Attempt {
  readonly method: string
  /** Without the query. */
  readonly path: string
  /** Whether the sandbox speaks TLS, so that the gateway does as well. */
  readonly isTls: boolean
}

/** Why a connection or request is denied. */
export type DenialReason =
  "no_network" | "host_not_allowed" | "port_not_allowed" | "path_not_allowed" | "method_not_allowed" | "tls_required"

/** How the gateway forwards an allowed connection. */
export type Carriage =
  /** All bytes pass through unread. */
  | "opaque"
  /** TLS passes through after its server name was checked; the `Host` of each plain request is checked. */
  | "named"
  /** The gateway terminates TLS, decides each request and may set headers. */
  | "requests"

export type ConnectionDecision = Data.TaggedEnum<{
  Allow: { readonly carriage: Carriage }
  Deny: { readonly reason: DenialReason }
}>
export const ConnectionDecision = Data.taggedEnum<ConnectionDecision>()

export type RequestDecision = Data.TaggedEnum<{
  Allow: { readonly headers: Readonly<Record<string, HeaderValue>> }
  Deny: { readonly reason: DenialReason }
}>
export const RequestDecision = Data.taggedEnum<RequestDecision>()

/** The ports of HTTP and HTTPS. */
export const webPorts: ReadonlyArray<number> = [80, 443]

/** The ports of a rule. Headers may be credentials, so a rule that sets some is for plain HTTP only if it names port 80. */
const portsOf = ({ headers, ports }: NetworkRule): ReadonlyArray<number> =>
  ports ?? (headers === undefined ? webPorts : [443])

const matches = (pattern: string, host: string): boolean =>
  pattern.startsWith("*.") ? host.endsWith(pattern.slice(1)) && host.length > pattern.length - 1 : pattern === host

const rulesFor = (policy: NetworkPolicy, host: string): ReadonlyArray<NetworkRule> =>
  typeof policy === "string" ? [] : policy.allow.filter((rule) => matches(rule.host, host))

/** Whether a rule restricts or changes requests, so that the gateway must read them. */
const seesRequests = ({ headers, methods, paths }: NetworkRule): boolean =>
  headers !== undefined || methods !== undefined || paths !== undefined

/** Whether a name may be resolved: a rule or the default allows at least one of its ports. */
export const allowsName = (policy: NetworkPolicy, host: string): boolean =>
  policy === "public" || (policy !== "none" && (policy.default === "public" || rulesFor(policy, host).length > 0))

/**
 * Decides a connection. The rules of a host apply even if the default allows all other public hosts. Otherwise a connection
 * could use the default to avoid the paths and headers of a rule.
 */
export const decideConnection = (policy: NetworkPolicy, { host, port }: Attempt): ConnectionDecision => {
  if (policy === "none") return ConnectionDecision.Deny({ reason: "no_network" })
  if (policy === "public") return ConnectionDecision.Allow({ carriage: "opaque" })
  const rules = rulesFor(policy, host)
  const onPort = rules.filter((rule) => portsOf(rule).includes(port))
  if (onPort.length > 0) return ConnectionDecision.Allow({ carriage: onPort.some(seesRequests) ? "requests" : "named" })
  if (rules.length > 0) return ConnectionDecision.Deny({ reason: "port_not_allowed" })
  return policy.default === "public"
    ? ConnectionDecision.Allow({ carriage: "opaque" })
    : ConnectionDecision.Deny({ reason: "host_not_allowed" })
}

/** Escapes of slashes, backslashes and NUL, also escaped twice; bytes that are no UTF-8; and what is no escape. */
const ambiguousEscape = /%(?:25)*(?:2f|5c|00)|%(?:25)+2e|%c[01]|%(?![0-9a-f]{2})/i

/** A dot segment, also with path parameters, which some servers remove before they resolve it. */
const isDotSegment = (segment: string) => /^\.{1,2}(?:;|$)/.test(segment)

/**
 * The path with the escapes of unreserved characters decoded. Undefined if servers may interpret it differently, as with dot
 * segments or encoded slashes.
 */
const normalPath = (path: string): string | undefined => {
  if (!path.startsWith("/") || /[\\\0#?]/.test(path) || ambiguousEscape.test(path)) return undefined
  const plain = path.replace(/%([0-9a-f]{2})/gi, (escape, digits: string) => {
    const character = String.fromCharCode(Number.parseInt(digits, 16))
    return /[A-Za-z0-9._~-]/.test(character) ? character : escape.toUpperCase()
  })
  return plain.split("/").some(isDotSegment) || plain.includes("//") ? undefined : plain
}

const allowsPath = ({ paths }: NetworkRule, path: string | undefined): boolean =>
  paths === undefined ||
  (path !== undefined && paths.some((allowed) => (allowed.endsWith("/") ? path.startsWith(allowed) : path === allowed)))

const allowsMethod = ({ methods }: NetworkRule, method: string): boolean =>
  methods === undefined || methods.includes(method)

/** Decides a request, and returns the headers that the gateway sets on it. */
export const decideRequest = (policy: NetworkPolicy, request: RequestAttempt): RequestDecision => {
  const connection = decideConnection(policy, request)
  if (connection._tag === "Deny") return RequestDecision.Deny(connection)
  const rules = rulesFor(policy, request.host).filter((rule) => portsOf(rule).includes(request.port))
  if (rules.length === 0) return RequestDecision.Allow({ headers: {} })
  const path = normalPath(request.path)
  const onPath = rules.filter((rule) => allowsPath(rule, path))
  if (onPath.length === 0) return RequestDecision.Deny({ reason: "path_not_allowed" })
  const allowing = onPath.filter((rule) => allowsMethod(rule, request.method))
  if (allowing.length === 0) return RequestDecision.Deny({ reason: "method_not_allowed" })
  // The first rule that sets a header wins.
  const headers: Record<string, HeaderValue> = Object.assign({}, ...allowing.map(({ headers }) => headers).reverse())
  if (Object.keys(headers).length > 0) {
    // A rule that names port 80 asks for plain HTTP; on another port the sandbox must not choose to send them in the clear.
    if (!request.isTls && request.port !== 80) return RequestDecision.Deny({ reason: "tls_required" })
    // TRACE answers with the headers that it was sent.
    if (/^TRAC[EK]$/.test(request.method)) return RequestDecision.Deny({ reason: "method_not_allowed" })
  }
  return RequestDecision.Allow({ headers })
}
