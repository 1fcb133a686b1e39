/** What the environment says of the local provider. */
import { Config, Effect, Option } from "effect"
import { LocalUnavailable } from "./isolation/Isolation.ts"
import { parse } from "./sandbox/Registry.ts"

/** What the environment has under that name; the empty string where that is nothing. */
const setting = (name: string) =>
  Effect.mapBoth(Config.option(Config.String(name)), {
    onFailure: () => new LocalUnavailable({ message: `${name} can't be read` }),
    onSuccess: Option.getOrElse(() => "")
  })

const choice = Effect.fnUntraced(function* <A extends string>(name: string, allowed: ReadonlyArray<A>, otherwise: A) {
  const given = yield* setting(name)
  if (given === "") return otherwise
  const known = allowed.find((one) => one === given)
  if (known !== undefined) return known
  const message = `${name} is "${given}"; it must be ${allowed.map((one) => `"${one}"`).join(" or ")}`
  return yield* new LocalUnavailable({ message })
})

const registry = Effect.gen(function* () {
  const name = "CASTELLAN_NPM_REGISTRY"
  const given = yield* setting(name)
  if (given === "") return {}
  if (parse(given) !== undefined) return { registry: given }
  return yield* new LocalUnavailable({ message: `${name} must be an http or https URL, with no user in it` })
})

/** As CASTELLAN_LOCAL_ISOLATION, CASTELLAN_LOCAL_NETWORK and CASTELLAN_NPM_REGISTRY have it. */
export const settings = Effect.gen(function* () {
  const isolation = yield* choice("CASTELLAN_LOCAL_ISOLATION", ["namespaces", "none"], "namespaces")
  const network = yield* choice("CASTELLAN_LOCAL_NETWORK", ["none", "host"], "none")
  return { isolation, network, ...(yield* registry) }
})
