/** Serves the DNS queries and the connections of one sandbox, on sockets in the sandbox's network. */
import type { NetworkPolicy } from "@castellan/domain/network/NetworkPolicy.ts"
import type { Socket as DatagramSocket } from "node:dgram"
import type { Server } from "node:net"
import type { Certificates } from "./Certificates.ts"
import type { Dialer } from "./Dialer.ts"
import * as Dns from "./Dns.ts"
import * as Egress from "./Egress.ts"
import type { Traffic } from "./messages.ts"
import * as Names from "./Names.ts"

/** The maximum number of different refusals, and of hosts with traffic, in a report. */
const keptAtMost = 100

export interface Network {
  /** Serves the connections that programs in the sandbox open to a port. */
  readonly listen: (server: Server, port: number) => void
  /** Answers the DNS queries of the sandbox. */
  readonly resolve: (socket: DatagramSocket) => void
  /** Replaces the policy, and closes the connections that the new one does not allow. */
  readonly change: (next: PolicyInForce) => void
  /** The refusals and the traffic since the last call. */
  readonly report: () => {
    readonly refusals: ReadonlyArray<readonly [Egress.Refusal, times: number]>
    readonly traffic: ReadonlyArray<Traffic>
  }
  /** The number of open connections. */
  readonly openNow: () => number
  readonly close: () => void
}

/** A policy with the values of its secrets. */
export interface PolicyInForce {
  readonly policy: NetworkPolicy
  readonly secrets: Readonly<Record<string, string>>
}

export const make = (
  initial: PolicyInForce,
  dialer: Dialer,
  certificates: Certificates | undefined,
  mayOpen?: Egress.EgressOptions["mayOpen"]
): Network => {
  let current = initial
  const sockets: Array<Server | DatagramSocket> = []
  const refusals = new Map<string, [Egress.Refusal, number]>()
  const traffic = new Map<string, Traffic>()

  const refused = (refusal: Egress.Refusal) => {
    const key = `${refusal.reason} ${refusal.host} ${refusal.port}`
    const known = refusals.get(key)
    if (known !== undefined) known[1]++
    else if (refusals.size < keptAtMost) refusals.set(key, [refusal, 1])
  }

  const carried = (host: string, sent: number, received: number) => {
    // Hosts beyond the limit are counted together.
    const key = traffic.has(host) || traffic.size < keptAtMost ? host : "*"
    const before = traffic.get(key) ?? { host: key, sent: 0, received: 0 }
    traffic.set(key, { host: key, sent: before.sent + sent, received: before.received + received })
  }

  const policy = () => current.policy
  const secretOf = (name: string) => (Object.hasOwn(current.secrets, name) ? current.secrets[name] : undefined)
  const names = Names.make()
  const egress = Egress.make({ policy, dialer, certificates, secretOf, refused, carried, ...(mayOpen && { mayOpen }) })
  const dns = Dns.make({
    policy,
    names,
    dialer,
    refused: (host) => refused({ host, port: 0, reason: current.policy === "none" ? "no_network" : "host_not_allowed" })
  })

  return {
    listen: (server, port) => {
      sockets.push(server)
      server.on("error", () => undefined)
      server.on("connection", (socket) => {
        const host = names.nameOf(socket.localAddress ?? "")
        if (host === undefined) socket.resetAndDestroy()
        else egress.serve(socket, { host, port })
      })
    },
    resolve: (socket) => {
      sockets.push(socket)
      dns.serve(socket)
    },
    change: (next) => {
      current = next
      egress.enforce()
    },
    report: () => {
      const found = { refusals: [...refusals.values()], traffic: [...traffic.values()] }
      refusals.clear()
      traffic.clear()
      return found
    },
    openNow: egress.openNow,
    close: () => {
      for (const socket of sockets) socket.close()
      egress.close()
    }
  }
}
