/** Reads the options of the local provider from the environment. */
import { Config, Effect, Option } from "effect"
import { LocalUnavailable } from "./isolation/Isolation.ts"
import { parseRegistryUrl } from "./network/PackageRegistry.ts"

/** The value of a variable; the empty string if it is not set. */
const variable = (name: string) =>
  Effect.mapBoth(Config.option(Config.String(name)), {
    onFailure: () => new LocalUnavailable({ message: `${name} can't be read` }),
    onSuccess: Option.getOrElse(() => "")
  })

const choice = Effect.fnUntraced(function* <A extends string>(name: string, allowed: ReadonlyArray<A>, fallback: A) {
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

/** Reads CASTELLAN_LOCAL_ISOLATION, CASTELLAN_LOCAL_NETWORK and CASTELLAN_NPM_REGISTRY. */
export const settingsFromEnvironment = Effect.gen(function* () {
  const isolation = yield* choice("CASTELLAN_LOCAL_ISOLATION", ["namespaces", "none"], "namespaces")
  const network = yield* choice("CASTELLAN_LOCAL_NETWORK", ["none", "host"], "none")
  return { isolation, network, ...(yield* registry) }
})
