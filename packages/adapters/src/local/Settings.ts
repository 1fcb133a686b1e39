/** Reads the options of the local provider from the environment. */
import { HostPattern, NetworkPolicy } from "@castellan/domain/network/NetworkPolicy.ts"
import { Config, Effect, Option, Schema } from "effect"
import { readFileSync } from "node:fs"
import { LocalUnavailable } from "./isolation/Isolation.ts"
import { parseRegistryUrl } from "./network/PackageRegistry.ts"

/** The value of a variable; the empty string if it is not set. */
const variable = (name: string) =>
  Effect.mapBoth(Config.option(Config.String(name)), {
    onFailure: () => new LocalUnavailable({ message: `${name} can't be read` }),
    onSuccess: Option.getOrElse(() => "")
  })

const choice = Effect.fnUntraced(function* <A extends string, B extends A | undefined>(
  name: string,
  allowed: ReadonlyArray<A>,
  fallback: B
): Effect.fn.Return<A | B, LocalUnavailable> {
  const value = yield* variable(name)
  if (value === "") return fallback
  const chosen = allowed.find((one) => one === value)
  if (chosen !== undefined) return chosen
  const message = `${name} is "${value}"; it must be ${allowed.map((one) => `"${one}"`).join(" or ")}`
  return yield* new LocalUnavailable({ message })
})

const registry = Effect.gen(function* () {
  const name = "CASTELLAN_NPM_REGISTRY"
  const value = yield* variable(name)
  if (value === "") return {}
  if (parseRegistryUrl(value) !== undefined) return { registry: value }
  return yield* new LocalUnavailable({ message: `${name} must be an http or https URL without a user or password` })
})

const refuse = (message: string) => new LocalUnavailable({ message })

const isPolicy = Schema.decodeUnknownEffect(Schema.fromJsonString(NetworkPolicy))

/** CASTELLAN_NETWORK: `public`, `none`, or a policy with rules as JSON. */
const policy = Effect.gen(function* () {
  const name = "CASTELLAN_NETWORK"
  const given = yield* variable(name)
  const old = yield* choice("CASTELLAN_LOCAL_NETWORK", ["none", "host"], undefined)
  if (old === "host") {
    return yield* refuse(
      "CASTELLAN_LOCAL_NETWORK=host is no longer supported: set CASTELLAN_NETWORK=public, and name hosts of your own network in CASTELLAN_EGRESS_HOSTS"
    )
  }
  if (old !== undefined) yield* Effect.logWarning("CASTELLAN_LOCAL_NETWORK is deprecated: use CASTELLAN_NETWORK")
  if (given === "") return old ?? "public"
  if (given === "public" || given === "none") return given
  return yield* Effect.mapError(isPolicy(given), () =>
    refuse(`${name} must be "public", "none", or a network policy in JSON`)
  )
})

/** CASTELLAN_EGRESS_HOSTS: `name=URL`, separated by commas; a name may have an http and an https URL. */
const egressHosts = Effect.gen(function* () {
  const name = "CASTELLAN_EGRESS_HOSTS"
  const hosts = new Map<string, ReadonlyArray<URL>>()
  for (const entry of (yield* variable(name)).split(",").filter((text) => text.trim() !== "")) {
    const [host = "", ...rest] = entry.trim().split("=")
    const url = parseRegistryUrl(rest.join("="))
    if (url === undefined || !Schema.is(HostPattern)(host) || host.startsWith("*"))
      return yield* refuse(`${name} has "${entry.trim()}"; it must be name=URL with an http or https URL`)
    hosts.set(host, [...(hosts.get(host) ?? []), url])
  }
  return hosts
})

/** CASTELLAN_EGRESS_CA: a file of certificates in PEM. */
const egressTrusted = Effect.gen(function* () {
  const name = "CASTELLAN_EGRESS_CA"
  const file = yield* variable(name)
  if (file === "") return []
  return yield* Effect.try({
    try: () => [readFileSync(file, "utf8")],
    catch: (cause) => refuse(`${name} ${file} can't be read: ${String(cause)}`)
  })
})

/** Reads CASTELLAN_LOCAL_ISOLATION, CASTELLAN_NETWORK, CASTELLAN_EGRESS_HOSTS, CASTELLAN_EGRESS_CA and CASTELLAN_NPM_REGISTRY. */
export const settingsFromEnvironment = Effect.gen(function* () {
  const isolation = yield* choice("CASTELLAN_LOCAL_ISOLATION", ["namespaces", "none"], "namespaces")
  return {
    isolation,
    network: yield* policy,
    egressHosts: yield* egressHosts,
    egressTrusted: yield* egressTrusted,
    ...(yield* registry)
  }
})
