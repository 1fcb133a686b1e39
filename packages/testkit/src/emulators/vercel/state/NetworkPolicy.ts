/** What a sandbox may reach: told in one form, and answered in another. Nothing here enforces it. */

/** As Vercel answers it. */
export interface NetworkPolicy {
  readonly mode: "allow-all" | "deny-all" | "custom"
  readonly allowedDomains?: ReadonlyArray<string>
  readonly allowedCIDRs?: ReadonlyArray<string>
  readonly deniedCIDRs?: ReadonlyArray<string>
  readonly injectionRules?: ReadonlyArray<object>
  readonly forwardRules?: ReadonlyArray<object>
}

interface Rule {
  readonly match?: object
  readonly transform?: ReadonlyArray<{ readonly headers?: Record<string, string> }>
  readonly forwardURL?: string
}

interface Asked {
  readonly mode?: string
  readonly allow?: ReadonlyArray<string> | Record<string, ReadonlyArray<Rule>>
  readonly subnets?: { readonly allow?: ReadonlyArray<string>; readonly deny?: ReadonlyArray<string> }
}

/** The policy of a sandbox of which nothing is said. */
export const allowAll: NetworkPolicy = { mode: "allow-all" }

const matchOf = ({ match }: Rule) => (match === undefined ? {} : { match })

const listed = (key: string, values: ReadonlyArray<unknown> | undefined) =>
  values === undefined || values.length === 0 ? {} : { [key]: values }

/** The policy that was asked for, in the form of answers: the values of headers stay behind. Undefined if it is none. */
export const answered = (asked: unknown): NetworkPolicy | undefined => {
  if (asked === "allow-all" || asked === "deny-all") return { mode: asked }
  if (typeof asked !== "object" || asked === null) return undefined
  const { allow, mode, subnets } = asked as Asked
  if (mode === "allow-all" || mode === "deny-all") return { mode }
  if (mode !== undefined) return undefined
  if (allow === undefined && subnets === undefined) return { mode: "deny-all" }
  const byDomain = Array.isArray(allow) || allow === undefined ? {} : (allow as Record<string, ReadonlyArray<Rule>>)
  const rules = Object.entries(byDomain).flatMap(([domain, all]) => all.map((rule) => ({ domain, rule })))
  return {
    mode: "custom",
    ...listed("allowedDomains", Array.isArray(allow) ? allow : Object.keys(byDomain)),
    ...listed("allowedCIDRs", subnets?.allow),
    ...listed("deniedCIDRs", subnets?.deny),
    ...listed(
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
    ...listed(
      "forwardRules",
      rules.flatMap(({ domain, rule }) =>
        rule.forwardURL === undefined ? [] : [{ domain, forwardURL: rule.forwardURL, ...matchOf(rule) }]
      )
    )
  }
}
