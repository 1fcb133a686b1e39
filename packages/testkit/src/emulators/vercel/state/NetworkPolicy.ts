/** The network policy of a sandbox: requested in one form, and returned in another. The emulator does not enforce it. */
import { Schema } from "effect"

/** The policy in responses. */
export interface NetworkPolicy {
  readonly mode: "allow-all" | "deny-all" | "custom"
  readonly allowedDomains?: ReadonlyArray<string>
  readonly allowedCIDRs?: ReadonlyArray<string>
  readonly deniedCIDRs?: ReadonlyArray<string>
  readonly injectionRules?: ReadonlyArray<object>
  readonly forwardRules?: ReadonlyArray<object>
}

const Mode = Schema.Literals(["allow-all", "deny-all"])
const Names = Schema.Array(Schema.String)
const Rule = Schema.Struct({
  match: Schema.optionalKey(Schema.Record(Schema.String, Schema.Unknown)),
  transform: Schema.optionalKey(
    Schema.Array(Schema.Struct({ headers: Schema.optionalKey(Schema.Record(Schema.String, Schema.Unknown)) }))
  ),
  forwardURL: Schema.optionalKey(Schema.String)
})
type Rule = typeof Rule.Type

/** The policy in requests. */
export const NetworkPolicyRequest = Schema.Union([
  Mode,
  Schema.Struct({
    mode: Schema.optionalKey(Mode),
    allow: Schema.optionalKey(Schema.Union([Names, Schema.Record(Schema.String, Schema.Array(Rule))])),
    subnets: Schema.optionalKey(Schema.Struct({ allow: Schema.optionalKey(Names), deny: Schema.optionalKey(Names) }))
  })
])

/** The policy of a new sandbox. */
export const allowAll: NetworkPolicy = { mode: "allow-all" }

const matchOf = ({ match }: Rule) => (match === undefined ? {} : { match })

const unlessEmpty = (key: string, values: ReadonlyArray<unknown> | undefined) =>
  values === undefined || values.length === 0 ? {} : { [key]: values }

/** The policy of a request in the form of responses, which leave out the values of injected headers. */
export const toNetworkPolicy = (request: typeof NetworkPolicyRequest.Type): NetworkPolicy => {
  if (typeof request === "string") return { mode: request }
  const { allow, mode, subnets } = request
  if (mode !== undefined) return { mode }
  if (allow === undefined && subnets === undefined) return { mode: "deny-all" }
  const byDomain = Array.isArray(allow) || allow === undefined ? {} : (allow as Record<string, ReadonlyArray<Rule>>)
  const rules = Object.entries(byDomain).flatMap(([domain, all]) => all.map((rule) => ({ domain, rule })))
  return {
    mode: "custom",
    ...unlessEmpty("allowedDomains", Array.isArray(allow) ? allow : Object.keys(byDomain)),
    ...unlessEmpty("allowedCIDRs", subnets?.allow),
    ...unlessEmpty("deniedCIDRs", subnets?.deny),
    ...unlessEmpty(
      "injectionRules",
      rules.flatMap(({ domain, rule }) =>
        rule.transform === undefined
          ? []
          : [
              {
                domain,
                headerNames: rule.transform.flatMap(({ headers }) => Object.keys(headers ?? {})),
                ...matchOf(rule)
              }
            ]
      )
    ),
    ...unlessEmpty(
      "forwardRules",
      rules.flatMap(({ domain, rule }) =>
        rule.forwardURL === undefined ? [] : [{ domain, forwardURL: rule.forwardURL, ...matchOf(rule) }]
      )
    )
  }
}
