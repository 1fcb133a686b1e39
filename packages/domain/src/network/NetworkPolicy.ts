/** What a sandbox may reach: nothing, the public internet, or a list of hosts. */
import { Schema } from "effect"

/** Most rules of a policy, and most ports, paths, methods and headers of a rule. */
export const policyLimits = { rules: 100, ports: 16, paths: 32, methods: 16, headers: 16 } as const

const label = "(?!-)[a-z0-9_-]{1,63}(?<!-)"

/** A name of at least two labels whose last one is not a number, so that no address in any notation is a name. */
const hostPattern = new RegExp(`^(?:\\*\\.)?(?:${label}\\.)+(?=[a-z0-9-]*[a-z])${label}$`)

/**
 * A host name in lower case, or `*.` and a name, which matches every name below it but not the name itself. Names beyond
 * ASCII are written in their `xn--` form. An address is no host name.
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

/** The beginning of a path. It ends with a slash, or matches that path alone. */
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

/** Headers that frame a request or belong to one connection; a rule can't set them. */
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

/** A header's value: a text, or a secret that is looked up for each request, after an optional prefix. */
export const HeaderValue = Schema.Union([
  HeaderText,
  Schema.Struct({ secret: SecretName, prefix: Schema.optionalKey(HeaderText) })
])
export type HeaderValue = typeof HeaderValue.Type

const atMost = (name: keyof typeof policyLimits) =>
  Schema.isMaxLength(policyLimits[name], { message: `at most ${policyLimits[name]} ${name} are allowed` })

/** A host that may be reached, and what may be asked of it. */
export const NetworkRule = Schema.Struct({
  host: HostPattern,
  /** The ports that may be reached; 80 and 443 if left out. */
  ports: Schema.optionalKey(Schema.Array(EgressPort).pipe(Schema.check(Schema.isMinLength(1), atMost("ports")))),
  /** A path that ends with a slash allows all paths below it, any other path itself. All paths if left out. */
  paths: Schema.optionalKey(Schema.Array(PathPrefix).pipe(Schema.check(Schema.isMinLength(1), atMost("paths")))),
  /** The request methods that may be used; all if left out. */
  methods: Schema.optionalKey(Schema.Array(Method).pipe(Schema.check(Schema.isMinLength(1), atMost("methods")))),
  /** Headers that the gateway sets on each request that the rule allows, in place of those that the sandbox sent. */
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

/** The hosts that may be reached, and whether all other public hosts may be reached as well. */
export const AllowList = Schema.Struct({
  allow: Schema.Array(NetworkRule).pipe(Schema.check(atMost("rules"))),
  /** What holds for a host without a rule; `deny` if left out. */
  default: Schema.optionalKey(Schema.Literals(["deny", "public"]))
})
export type AllowList = typeof AllowList.Type

/**
 * What a sandbox may reach. `none`: nothing, DNS included. `public`: every public address, by name. Never reachable, by
 * whatever name: loopback, private, link-local, carrier-grade, multicast and metadata addresses of the host's network.
 */
export const NetworkPolicy = Schema.Union([Schema.Literals(["none", "public"]), AllowList])
export type NetworkPolicy = typeof NetworkPolicy.Type

/** The names of all secrets that a policy refers to. */
export const secretsOf = (policy: NetworkPolicy): ReadonlySet<SecretName> =>
  new Set(
    typeof policy === "string"
      ? []
      : policy.allow.flatMap(({ headers = {} }) =>
          Object.values(headers).flatMap((value) => (typeof value === "string" ? [] : [value.secret]))
        )
  )
