/**
 * Emulates the HTTP API of Vercel Sandbox over any provider of sandboxes. Isolation is the provider's. The emulator
 * reports network policies, regions, images and quotas, and does not enforce them.
 */
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Context, Duration, Effect, FiberMap, Layer, type Scope } from "effect"
import type { AddressInfo } from "node:net"
import * as Faults from "../Faults.ts"
import * as Bridges from "./state/Bridges.ts"
import type { Fault } from "./Faults.ts"
import type { SandboxModel } from "./state/models.ts"
import * as Server from "./wire/Server.ts"
import type { Plan, EmulatorState } from "./state/EmulatorState.ts"

/** The options of an emulator. */
export interface EmulatorOptions {
  /** The loopback port to listen on; a free one by default. */
  readonly port?: number
  /** The provider's home directory, which sessions report as theirs; `/home/user` by default. */
  readonly home?: string
  /** The limits of the plan; Pro's by default. */
  readonly plan?: Partial<Plan>
  /** The accepted tokens with their teams; any token for any team by default. */
  readonly tokens?: Readonly<Record<string, ReadonlyArray<string>>>
  /** Whether sandboxes have npm and access to its registry; false by default. */
  readonly registry?: boolean
  /** Whether resuming a sandbox without a snapshot fails, or starts without files. */
  readonly withoutSnapshot?: "refused" | "clean"
  /** Whether stopping a stopped session responds with 410 or with its state. Vercel's own behaviour is not known. */
  readonly stopOfStopped?: "gone" | "ok"
  /** Whether lines of a stream are pure ASCII. If not, clients may garble characters that span two chunks, as with Vercel. */
  readonly ascii?: boolean
}

/** A running emulator. */
export interface Emulator {
  /** The URL of the API, in place of `https://vercel.com/api`. */
  readonly url: string
  /** For the `fetch` option of the SDK: sends requests for Vercel to the emulator, and passes on all others. */
  readonly fetch: typeof globalThis.fetch
  readonly faults: Faults.Faults<Fault>
  /** The last requests, in order. */
  readonly requests: ReadonlyArray<Server.RecordedRequest>
}

/** The running emulator as a service. */
export class VercelEmulator extends Context.Service<VercelEmulator, Emulator>()(
  "testkit/emulators/vercel/VercelEmulator"
) {}

const pro: Plan = {
  maxTimeout: Duration.toMillis(Duration.hours(24)),
  maxVcpus: 8,
  maxPorts: 15,
  maxRunning: 10_000
}

/** A fetch that sends requests for Vercel to the emulator. */
const fetchTo = (origin: string, urlOf: (subdomain: string) => string | undefined): typeof globalThis.fetch => {
  const emulatorUrl = (requested: string) => {
    const url = new URL(requested)
    if (url.origin === "https://vercel.com" || url.origin === "https://api.vercel.com") {
      return origin + url.pathname + url.search
    }
    const [, subdomain = ""] = /^https:\/\/([^.]+)\.vercel\.run$/.exec(url.origin) ?? []
    const bridge = urlOf(subdomain)
    return bridge === undefined ? requested : bridge + url.pathname + url.search
  }
  return (input, init) =>
    input instanceof Request
      ? globalThis.fetch(new Request(emulatorUrl(input.url), input), init)
      : globalThis.fetch(emulatorUrl(String(input)), init)
}

/** Removes all sandboxes and snapshots from the provider. */
const cleared = ({ provider, sandboxes, snapshots }: EmulatorState) =>
  Effect.gen(function* () {
    const all = { concurrency: 4, discard: true } as const
    yield* Effect.forEach([...sandboxes.values()], (one) => Effect.ignore(provider.remove(one.providerName)), all)
    const left = [...snapshots.values()].filter(({ status }) => status === "created")
    yield* Effect.forEach(left, (one) => Effect.ignore(provider.removeSnapshot(one.providerId)), all)
  })

/** Starts an emulator, which stops and removes its sandboxes and snapshots when the scope closes. */
export const make = (
  options: EmulatorOptions = {}
): Effect.Effect<Emulator, Server.EmulatorUnavailable, Scope.Scope | SandboxProvider> =>
  Effect.gen(function* () {
    const provider = yield* SandboxProvider
    const bridges = yield* Bridges.make(provider)
    const state: EmulatorState = {
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
      timers: yield* FiberMap.make<SandboxModel>(),
      bridges
    }
    yield* Effect.addFinalizer(() => cleared(state))
    const faults = Faults.make<Fault>()
    const requests: Array<Server.RecordedRequest> = []
    const server = yield* Server.listen({ state, tokens: options.tokens, faults, requests }, options.port ?? 0)
    const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    return { url: `${origin}/api`, fetch: fetchTo(origin, bridges.urlOf), faults, requests }
  })

/** Starts an emulator as a service. */
export const layer = (
  options: EmulatorOptions = {}
): Layer.Layer<VercelEmulator, Server.EmulatorUnavailable, SandboxProvider> =>
  Layer.effect(VercelEmulator, make(options))
