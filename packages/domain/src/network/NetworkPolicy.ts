/** The network policy of a sandbox: nothing, the public internet, or a list of allowed hosts. */
import { Schema } from "effect"

/** The maximum number of rules in a policy, and of ports, paths, methods and headers in a rule. */
export const policyLimits = { rules: 100, ports: 16, paths: 32, methods: 16, headers: 16 } as const

const label = "(?!-)[a-z0-9_-]{1,63}(?<!-)"

/** Matches names of at least two labels. The last label is not a number, so no notation of an IP address matches. */
const hostPattern = new RegExp(`^(?:\\*\\.)?(?:${label}\\.)+(?=[a-z0-9-]*[a-z])${label}$`)

/**
 * A host name in lower case, or `*.` before a name, which matches all of its subdomains but not the name itself.
 * International names use their `xn--` form. IP addresses are not allowed.
 */
export const HostPattern = Schema.String.pipe(
  Schema.check(
    Schema.makeFilter((text: string) => text.length <= 253 && hostPattern.test(text), {
      message: "a host is a name like api.example.com or *.example.com, in lower case, and not an address"
    })
  ),
  Schema.brand("HostPattern")
)
export type HostPattern = typeof HostPattern.Type

/** A TCP port. */
export const EgressPort = Schema.Int.pipe(
  Schema.check(Schema.isBetween({ minimum: 1, maximum: 65_535 }, { message: "a port is a number from 1 to 65535" }))
)

/** A path. With a slash at the end it matches all paths below it; otherwise it matches only itself. */
const PathPrefix = Schema.String.pipe(
  Schema.check(
    Schema.makeFilter(
      (text: string) =>
        text.length <= 1024 &&
        /^\/[\x21-\x7e]*$/.test(text) &&
        !/[?#\\]|%2e/i.test(text) &&
        !/(^|\/)\.{1,2}(\/|$)/.test(text),
      {
        message:
          "a path begins with /, has at most 1024 visible ASCII characters, and no query, fragment or dot segment"
      }
    )
  )
)

const Method = Schema.String.pipe(
  Schema.check(Schema.isPattern(/^[A-Z]{1,20}$/, { message: "a method is written in capital letters, like GET" }))
)

/** Headers that frame a message or belong to one connection; a rule can't set them. */
const reserved = new Set([
  "connection",
  "content-length",
  "expect",
  "host",
  "keep-alive",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade"
])

const isHeaderName = (text: string) => /^[a-z0-9][a-z0-9!#$%&'*+.^_`|~-]{0,63}$/.test(text) && !reserved.has(text)

const HeaderText = Schema.String.pipe(
  Schema.check(
    Schema.isPattern(/^[\x20-\x7e\t]{0,8192}$/, {
      message: "a header's value has at most 8192 visible ASCII characters"
    })
  )
)

/** A secret of the account or organization, referred to by its name. */
export const SecretName = Schema.String.pipe(
  Schema.check(
    Schema.isPattern(/^[A-Za-z][A-Za-z0-9_-]{0,62}$/, {
      message: "a secret's name begins with a letter and has at most 63 letters, digits, - and _"
    })
  ),
  Schema.brand("SecretName")
)
export type SecretName = typeof SecretName.Type

/** The value of a header: a text, or an optional prefix and a secret that is read for each request. */
export const HeaderValue = Schema.Union([
  HeaderText,
  Schema.Struct({ secret: SecretName, prefix: Schema.optionalKey(HeaderText) })
])
export type HeaderValue = typeof HeaderValue.Type

const atMost = (name: keyof typeof policyLimits) =>
  Schema.isMaxLength(policyLimits[name], { message: `at most ${policyLimits[name]} ${name} are allowed` })

/** An allowed host, with restrictions and headers for its requests. */
export const NetworkRule = Schema.Struct({
  host: HostPattern,
  /** The allowed ports. By default 443, and 80 as well for a rule without headers. */
  ports: Schema.optionalKey(Schema.Array(EgressPort).pipe(Schema.check(Schema.isMinLength(1), atMost("ports")))),
  /** The allowed paths; all by default. */
  paths: Schema.optionalKey(Schema.Array(PathPrefix).pipe(Schema.check(Schema.isMinLength(1), atMost("paths")))),
  /** The allowed request methods; all by default. */
  methods: Schema.optionalKey(Schema.Array(Method).pipe(Schema.check(Schema.isMinLength(1), atMost("methods")))),
  /**
   * Headers that the gateway sets on each allowed request. They replace headers of the same name from the sandbox. They are
   * sent without TLS only where the rule names port 80.
   */
  headers: Schema.optionalKey(
    Schema.Record(Schema.String, HeaderValue).pipe(
      Schema.check(
        Schema.makeFilter((headers: object) => Object.keys(headers).every(isHeaderName), {
          message:
            "a header's name is in lower case, and not one that frames the request (such as host or content-length)"
        }),
        Schema.makeFilter((headers: object) => Object.keys(headers).length <= policyLimits.headers, {
          message: `at most ${policyLimits.headers} headers are allowed`
        })
      )
    )
  )
})
export type NetworkRule = typeof NetworkRule.Type

/** A policy with rules for hosts. */
export const AllowList = Schema.Struct({
  allow: Schema.Array(NetworkRule).pipe(Schema.check(atMost("rules"))),
  /** What applies to hosts without a rule; `deny` by default. */
  default: Schema.optionalKey(Schema.Literals(["deny", "public"]))
})
export type AllowList = typeof AllowList.Type

/**
 * What a sandbox may reach. `none`: nothing, and no name resolves. `public`: every public host, by name. No policy allows
 * loopback, private, link-local, carrier-grade NAT, multicast or metadata addresses, whatever name resolves to them.
 */
export const NetworkPolicy = Schema.Union([Schema.Literals(["none", "public"]), AllowList])
export type NetworkPolicy = typeof NetworkPolicy.Type

/** The names of the secrets in a policy. */
export const secretsOf = (policy: NetworkPolicy): ReadonlySet<SecretName> =>
  new Set(
    typeof policy === "string"
      ? []
      : policy.allow.flatMap(({ headers = {} }) =>
          Object.values(headers).flatMap((value) => (typeof value === "string" ? [] : [value.secret]))
        )
  )
