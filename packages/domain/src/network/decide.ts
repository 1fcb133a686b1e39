/** Decides what a network policy allows. Whoever carries connections asks for each of them, and for each request. */
import { Data } from "effect"
import type { HeaderValue, NetworkPolicy, NetworkRule } from "./NetworkPolicy.ts"

/** A connection to be made, by the name that the sandbox asked for. */
export interface Attempt {
  /** In lower case, without a final dot. */
  readonly host: string
  readonly port: number
}

/** A request of HTTP on a connection whose content the gateway sees. */
export interface RequestAttempt extends Attempt {
  readonly method: string
  /** Without the query. */
  readonly path: string
}

/** Why something is refused; the code of `egress_denied` events. */
export type DenialReason =
  "no_network" | "host_not_allowed" | "port_not_allowed" | "path_not_allowed" | "method_not_allowed"

/** How an allowed connection is carried. */
export type Carriage =
  /** Bytes pass untouched, whatever they are. */
  | "opaque"
  /** Bytes pass untouched once the TLS server name, or the `Host` of each plain request, is the name that was asked for. */
  | "named"
  /** The gateway ends TLS, decides each request and may set headers. */
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

/** The ports of a rule that names none. */
export const webPorts: ReadonlyArray<number> = [80, 443]

const matches = (pattern: string, host: string): boolean =>
  pattern.startsWith("*.") ? host.endsWith(pattern.slice(1)) && host.length > pattern.length - 1 : pattern === host

const rulesFor = (policy: NetworkPolicy, host: string): ReadonlyArray<NetworkRule> =>
  typeof policy === "string" ? [] : policy.allow.filter((rule) => matches(rule.host, host))

/** Whether a rule looks at requests, so that the gateway has to see them. */
const seesRequests = ({ headers, methods, paths }: NetworkRule): boolean =>
  headers !== undefined || methods !== undefined || paths !== undefined

/** Whether the name may be resolved: whether some port of it could be reached. */
export const allowsName = (policy: NetworkPolicy, host: string): boolean =>
  policy === "public" || (policy !== "none" && (policy.default === "public" || rulesFor(policy, host).length > 0))

/**
 * Decides a connection. A host that has rules is held to them, also where all other public hosts are allowed: a rule that
 * injects a header for one path must not be avoided by the default.
 */
export const decideConnection = (policy: NetworkPolicy, { host, port }: Attempt): ConnectionDecision => {
  if (policy === "none") return ConnectionDecision.Deny({ reason: "no_network" })
  if (policy === "public") return ConnectionDecision.Allow({ carriage: "opaque" })
  const rules = rulesFor(policy, host)
  const onPort = rules.filter(({ ports = webPorts }) => ports.includes(port))
  if (onPort.length > 0) return ConnectionDecision.Allow({ carriage: onPort.some(seesRequests) ? "requests" : "named" })
  if (rules.length > 0) return ConnectionDecision.Deny({ reason: "port_not_allowed" })
  return policy.default === "public"
    ? ConnectionDecision.Allow({ carriage: "opaque" })
    : ConnectionDecision.Deny({ reason: "host_not_allowed" })
}

/**
 * The path as servers understand it: escapes of unreserved characters resolved, dot segments removed. Undefined where
 * servers may disagree on it.
 */
const normalPath = (path: string): string | undefined => {
  if (!path.startsWith("/") || /[\\\0#?]|%(?:2f|5c|00|(?![0-9a-f]{2}))/i.test(path)) return undefined
  const plain = path.replace(/%([0-9a-f]{2})/gi, (escape, digits: string) => {
    const character = String.fromCharCode(Number.parseInt(digits, 16))
    return /[A-Za-z0-9._~-]/.test(character) ? character : escape.toUpperCase()
  })
  return plain.split("/").some((segment) => segment === "." || segment === "..") || plain.includes("//")
    ? undefined
    : plain
}

const allowsPath = ({ paths }: NetworkRule, path: string | undefined): boolean =>
  paths === undefined ||
  (path !== undefined && paths.some((allowed) => (allowed.endsWith("/") ? path.startsWith(allowed) : path === allowed)))

const allowsMethod = ({ methods }: NetworkRule, method: string): boolean =>
  methods === undefined || methods.includes(method)

/** Decides a request on a connection that was allowed, and gives the headers to set on it. */
export const decideRequest = (policy: NetworkPolicy, request: RequestAttempt): RequestDecision => {
  const connection = decideConnection(policy, request)
  if (connection._tag === "Deny") return RequestDecision.Deny(connection)
  const rules = rulesFor(policy, request.host).filter(({ ports = webPorts }) => ports.includes(request.port))
  if (rules.length === 0) return RequestDecision.Allow({ headers: {} })
  const path = normalPath(request.path)
  const onPath = rules.filter((rule) => allowsPath(rule, path))
  if (onPath.length === 0) return RequestDecision.Deny({ reason: "path_not_allowed" })
  const allowing = onPath.filter((rule) => allowsMethod(rule, request.method))
  if (allowing.length === 0) return RequestDecision.Deny({ reason: "method_not_allowed" })
  // The first rule that sets a header decides its value.
  return RequestDecision.Allow({ headers: Object.assign({}, ...allowing.map(({ headers }) => headers).reverse()) })
}
