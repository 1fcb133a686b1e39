/** Gives sandboxes access to the package registry: its URL, and the environment of their commands. */
import { SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Duration, Effect, Exit } from "effect"
import type { Isolation } from "../isolation/Isolation.ts"
import * as Npm from "../isolation/Npm.ts"
import { commandPath } from "../isolation/rootFiles.ts"
import type { Locks } from "../process/Locks.ts"
import type { Layout } from "../storage/Layout.ts"
import { egressPort } from "./Gateway.ts"

/** The URL of a registry; undefined if the text is no URL, or has a user or password, which every sandbox would learn. */
export const parseRegistryUrl = (text: string): URL | undefined => {
  if (!URL.canParse(text)) return undefined
  const url = new URL(text)
  const isHttp = url.protocol === "http:" || url.protocol === "https:"
  return isHttp && url.username === "" && url.password === "" ? url : undefined
}

/** The names of the sandbox itself, which programs reach without the proxy unless the registry has that name. */
const loopbackNames = ["localhost", "127.0.0.1", "::1"]

const proxyVariables = (registry: URL): Record<string, string> => {
  const proxy = `http://127.0.0.1:${egressPort}`
  const direct = loopbackNames.filter((name) => name !== registry.hostname.replace(/[[\]]/g, "")).join(",")
  const names = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"]
  return { ...Object.fromEntries(names.map((name) => [name, proxy])), NO_PROXY: direct, no_proxy: direct }
}

/** Caches a success, but no failure. */
const cachedSuccess = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.cachedWithTTL(effect, (exit) => (Exit.isSuccess(exit) ? Duration.infinity : Duration.zero))

/** `configured` is the registry's URL; by default the one that npm on this host is configured to use. */
export const make = Effect.fnUntraced(function* (
  layout: Layout,
  isolation: Isolation,
  locks: Locks,
  configured: string | undefined
) {
  const parsed = Effect.flatMap(
    configured === undefined ? Npm.configuredRegistry : Effect.succeed(configured),
    (text) => {
      const registry = parseRegistryUrl(text)
      const cause = new Error("the registry that npm is configured to use is no http or https URL without a user")
      return registry === undefined
        ? Effect.fail(new SandboxUnavailable({ operation: "registry", retryable: false, cause }))
        : Effect.succeed(registry)
    }
  )
  const url = yield* cachedSuccess(parsed)

  /** The variables of commands in a sandbox with access to the registry. npm is installed once they are known. */
  const environment = yield* cachedSuccess(
    Effect.map(
      Effect.all([url, Npm.ensureInstalled(layout, locks)], { concurrency: 2 }),
      ([registry, npm]): Record<string, string> => ({
        PATH: `${isolation.npmSearchPath(npm)}:${commandPath}`,
        npm_config_registry: registry.href,
        npm_config_update_notifier: "false",
        // The sandbox sees the host's certificates, so Node trusts what the host trusts.
        NODE_USE_SYSTEM_CA: "1",
        ...(isolation.sharesNetwork ? {} : proxyVariables(registry))
      })
    )
  )

  return { url, environment }
})
