/**
 * Vercel Sandbox on this machine: its API on the wire, over any provider of sandboxes. What the provider isolates is
 * isolated, and nothing else; network policies, regions, images and quotas are told, and not enforced.
 */
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Context, Duration, Effect, FiberMap, Layer, type Scope } from "effect"
import type { AddressInfo } from "node:net"
import * as Faults from "../Faults.ts"
import * as Bridges from "./state/Bridges.ts"
import type { Fault } from "./Faults.ts"
import type { KeptSandbox } from "./state/Kept.ts"
import * as Server from "./wire/Server.ts"
import type { Plan, Site } from "./state/Site.ts"

/** What may be chosen of an emulator. */
export interface EmulatorOptions {
  /** The port of the loopback it listens on; any free one if left out. */
  readonly port?: number
  /** The provider's home directory, which sessions say is theirs; `/home/user` if left out. */
  readonly home?: string
  /** What the plan allows; Pro's limits if left out. */
  readonly plan?: Partial<Plan>
  /** The tokens that are let in, and the teams each may ask for; any token for any team if left out. */
  readonly tokens?: Readonly<Record<string, ReadonlyArray<string>>>
  /** Whether sandboxes have npm and reach its registry; not if left out. */
  readonly registry?: boolean
  /** What happens to a sandbox without a snapshot that is to be resumed: it is refused, or begins with no files. */
  readonly withoutSnapshot?: "refused" | "clean"
  /** What is said to who stops a stopped session: 410, or its state again. Vercel's own answer is not known. */
  readonly stopOfStopped?: "gone" | "ok"
  /** Whether lines of a stream are ASCII alone; else clients may garble characters between two pieces, as happens. */
  readonly ascii?: boolean
}

/** An emulator that listens. */
export interface Emulator {
  /** Where the API is, in place of `https://vercel.com/api`. */
  readonly url: string
  /** For the `fetch` option of the SDK: what goes to Vercel goes to the emulator, and everything else where it goes. */
  readonly fetch: typeof globalThis.fetch
  readonly faults: Faults.Faults<Fault>
  /** Requests so far, in the order they came. */
  readonly requests: ReadonlyArray<Server.Recorded>
}

/** The emulator that a test has. */
export class VercelEmulator extends Context.Service<VercelEmulator, Emulator>()(
  "testkit/emulators/vercel/VercelEmulator"
) {}

const pro: Plan = {
  maxTimeout: Duration.toMillis(Duration.hours(24)),
  maxVcpus: 8,
  maxPorts: 15,
  maxRunning: 10_000
}

/** The fetch that takes what was meant for Vercel here. */
const fetchTo = (origin: string, urlOf: (subdomain: string) => string | undefined): typeof globalThis.fetch => {
  const here = (asked: string) => {
    const url = new URL(asked)
    if (url.origin === "https://vercel.com" || url.origin === "https://api.vercel.com") {
      return origin + url.pathname + url.search
    }
    const [, subdomain = ""] = /^https:\/\/([^.]+)\.vercel\.run$/.exec(url.origin) ?? []
    const bridge = urlOf(subdomain)
    return bridge === undefined ? asked : bridge + url.pathname + url.search
  }
  return (input, init) =>
    input instanceof Request
      ? globalThis.fetch(new Request(here(input.url), input), init)
      : globalThis.fetch(here(String(input)), init)
}

/** Gives all it has made back to the provider. */
const cleared = ({ provider, sandboxes, snapshots }: Site) =>
  Effect.gen(function* () {
    const all = { concurrency: 4, discard: true } as const
    yield* Effect.forEach([...sandboxes.values()], (one) => Effect.ignore(provider.remove(one.providerName)), all)
    const left = [...snapshots.values()].filter(({ status }) => status === "created")
    yield* Effect.forEach(left, (one) => Effect.ignore(provider.removeSnapshot(one.providerId)), all)
  })

/** An emulator of its own; it listens until the scope closes, and its sandboxes and their snapshots go with it. */
export const make = (
  options: EmulatorOptions = {}
): Effect.Effect<Emulator, Server.EmulatorUnavailable, Scope.Scope | SandboxProvider> =>
  Effect.gen(function* () {
    const provider = yield* SandboxProvider
    const bridges = yield* Bridges.make(provider)
    const site: Site = {
      provider,
      home: options.home ?? "/home/user",
      plan: { ...pro, ...options.plan },
      registry: options.registry ?? false,
      withoutSnapshot: options.withoutSnapshot ?? "refused",
      stopOfStopped: options.stopOfStopped ?? "gone",
      ascii: options.ascii ?? true,
      sandboxes: new Map(),
      sessions: new Map(),
      snapshots: new Map(),
      timers: yield* FiberMap.make<KeptSandbox>(),
      bridges
    }
    yield* Effect.addFinalizer(() => cleared(site))
    const faults = Faults.make<Fault>()
    const requests: Array<Server.Recorded> = []
    const server = yield* Server.listen({ site, tokens: options.tokens, faults, requests }, options.port ?? 0)
    const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    return { url: `${origin}/api`, fetch: fetchTo(origin, bridges.urlOf), faults, requests }
  })

/** The emulator as a service. */
export const layer = (
  options: EmulatorOptions = {}
): Layer.Layer<VercelEmulator, Server.EmulatorUnavailable, SandboxProvider> =>
  Layer.effect(VercelEmulator, make(options))
