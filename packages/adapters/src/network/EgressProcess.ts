/** Starts the egress process and talks to it. */
import { type ChildProcess, fork } from "node:child_process"
import type { Socket as DatagramSocket } from "node:dgram"
import type { Server } from "node:net"
import { fileURLToPath } from "node:url"
import type { Authority } from "./Certificates.ts"
import type { EgressHosts } from "./Dialer.ts"
import type { Refusal } from "./Egress.ts"
import type { PolicyInForce } from "./Network.ts"
import type { Order, Report, Traffic } from "./messages.ts"

export interface EgressProcessOptions {
  /** Hosts that the operator maps to URLs. */
  readonly hosts?: EgressHosts
  readonly authority?: Authority
  readonly trusted?: ReadonlyArray<string>
  /** The user of the process if the server is root. */
  readonly user?: number
  readonly refused?: (network: string, refusal: Refusal, times: number) => void
  readonly carried?: (network: string, traffic: ReadonlyArray<Traffic>) => void
}

export interface EgressProcess {
  /** Starts to serve a network, or replaces its policy. Rejects if the process can't be started. */
  readonly serve: (network: string, inForce: PolicyInForce) => Promise<void>
  /** Whether the process serves the network. False after the process has ended. */
  readonly serves: (network: string) => boolean
  /** Hands a listening socket of a network to the process. Port 53 is the DNS socket. Resolves when it is closed here. */
  readonly handOver: (network: string, port: number, socket: Server | DatagramSocket) => Promise<void>
  /** Closes a network and its connections. */
  readonly close: (network: string) => void
  /** Ends the process. */
  readonly end: () => void
}

/** The timeout of starting the process, in milliseconds. */
const startedWithin = 20_000

export const make = ({
  authority,
  carried,
  hosts = new Map(),
  refused,
  trusted = [],
  user
}: EgressProcessOptions): EgressProcess => {
  let current: { readonly child: ChildProcess; readonly ready: Promise<void> } | undefined
  const served = new Set<string>()
  /** Resolves the pending handovers if the process ends. */
  const handing = new Set<() => void>()

  const start = () => {
    const child = fork(fileURLToPath(new URL("./egress-process.ts", import.meta.url)), {
      // The server's environment contains secrets.
      env: {},
      execArgv: [],
      stdio: ["ignore", "ignore", "inherit", "ipc"]
    })
    const ready = new Promise<void>((resolve, reject) => {
      child.on("message", (report: Report) => {
        if ("ready" in report) resolve()
        else if ("refused" in report) refused?.(report.network, report.refused, report.times)
        else carried?.(report.network, report.traffic)
      })
      const late = setTimeout(() => child.kill("SIGKILL"), startedWithin).unref()
      child.once("message", () => clearTimeout(late))
      // After an error that did not prevent its start, the process may still be alive and hold sockets.
      child.on("error", () => child.kill("SIGKILL"))
      const gone = () => {
        clearTimeout(late)
        reject(new Error("the egress process ended"))
        if (current?.child !== child) return
        current = undefined
        served.clear()
        for (const complete of handing) complete()
      }
      child.on("exit", gone).on("error", () => child.pid === undefined && gone())
    })
    ready.catch(() => undefined)
    const given = Array.from(hosts, ([name, urls]) => [name, urls.map(({ href }) => href)] as const)
    const configure = {
      hosts: given,
      trusted,
      ...(authority === undefined ? {} : { authority }),
      ...(user === undefined ? {} : { user })
    }
    child.send({ configure } satisfies Order)
    child.unref()
    child.channel!.unref()
    return { child, ready }
  }

  const send = (order: Order) => {
    if (current?.child.connected) current.child.send(order)
  }

  return {
    serve: async (network, inForce) => {
      const { ready } = (current ??= start())
      await ready
      send({ network, inForce })
      served.add(network)
    },
    serves: (network) => served.has(network),
    handOver: (network, port, socket) =>
      new Promise((resolve) => {
        // An open socket here would accept connections and queries that nothing answers.
        const close = () => {
          if (handing.delete(close)) socket.close(() => resolve())
        }
        handing.add(close)
        if (current?.child.connected) current.child.send({ network, port } satisfies Order, socket, close)
        else close()
      }),
    close: (network) => {
      if (served.delete(network)) send({ network, close: true })
    },
    // The process ignores SIGTERM and SIGINT.
    end: () => current?.child.kill("SIGKILL")
  }
}
