/** The registry of packages, for sandboxes that were made with it: which it is, and what their commands are told. */
import { SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Duration, Effect, Exit } from "effect"
import { egressPort } from "../network/Gateway.ts"
import type { Isolation } from "../isolation/Isolation.ts"
import type { Layout } from "./Layout.ts"
import type { Locks } from "../process/Locks.ts"
import * as Npm from "../network/Npm.ts"
import { path } from "../isolation/scripts.ts"

/** The address of a registry; undefined for what can't be one. A user or password in it would be every sandbox's. */
export const parse = (text: string): URL | undefined => {
  if (!URL.canParse(text)) return undefined
  const url = new URL(text)
  const isHttp = url.protocol === "http:" || url.protocol === "https:"
  return isHttp && url.username === "" && url.password === "" ? url : undefined
}

/** What a sandbox reaches without the proxy: itself, unless the registry goes by that name. */
const ownNames = ["localhost", "127.0.0.1", "::1"]

const proxied = (registry: URL): Record<string, string> => {
  const proxy = `http://127.0.0.1:${egressPort}`
  const direct = ownNames.filter((name) => name !== registry.hostname.replace(/[[\]]/g, "")).join(",")
  const names = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"]
  return { ...Object.fromEntries(names.map((name) => [name, proxy])), NO_PROXY: direct, no_proxy: direct }
}

/** Does it once; what failed is done again. */
const once = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.cachedWithTTL(effect, (exit) => (Exit.isSuccess(exit) ? Duration.infinity : Duration.zero))

/** `given` is the registry to use; without it, it is what npm on this machine uses. */
export const make = Effect.fnUntraced(function* (
  layout: Layout,
  isolation: Isolation,
  locks: Locks,
  given: string | undefined
) {
  const found = Effect.flatMap(given === undefined ? Npm.configuredRegistry : Effect.succeed(given), (text) => {
    const registry = parse(text)
    const cause = new Error("what npm uses as its registry is no http or https URL without a user")
    return registry === undefined
      ? Effect.fail(new SandboxUnavailable({ operation: "registry", retryable: false, cause }))
      : Effect.succeed(registry)
  })
  const url = yield* once(found)

  const settled = Effect.all([url, Npm.placed(layout, locks)], { concurrency: 2 })

  /** The variables of commands in a sandbox that has npm; npm is in place once they are known. */
  const environment = yield* once(
    Effect.map(settled, ([registry, placed]) => ({
      PATH: `${isolation.npmPath(placed)}:${path}`,
      npm_config_registry: registry.href,
      npm_config_update_notifier: "false",
      // It has the host's certificates, and trusts what the host trusts.
      NODE_USE_SYSTEM_CA: "1",
      ...(isolation.sharesNetwork ? {} : proxied(registry))
    }))
  )

  return { url, environment }
})
