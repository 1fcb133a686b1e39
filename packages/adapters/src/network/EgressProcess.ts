/** Starts the egress process, tells it which networks to serve, and passes on what it reports. */
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
  /** Names that the operator has reached elsewhere. */
  readonly hosts?: EgressHosts
  readonly authority?: Authority
  readonly trusted?: ReadonlyArray<string>
  /** The user that the process runs as if the server is root. */
  readonly user?: number
  readonly refused?: (network: string, refusal: Refusal, times: number) => void
  readonly carried?: (network: string, traffic: ReadonlyArray<Traffic>) => void
}

export interface EgressProcess {
  /** Begins to serve a network, or changes its policy. Rejects if the process can't be started. */
  readonly serve: (network: string, inForce: PolicyInForce) => Promise<void>
  /** Whether it serves the network; false again once the process has ended. */
  readonly serves: (network: string) => boolean
  /** Hands a listening socket of a network to the process; port 53 is the one for names. Completes once it is closed here. */
  readonly handOver: (network: string, port: number, socket: Server | DatagramSocket) => Promise<void>
  /** Ends a network with its connections. */
  readonly close: (network: string) => void
  /** Ends the process. */
  readonly end: () => void
}

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

  const start = () => {
    const child = fork(fileURLToPath(new URL("./egress-process.ts", import.meta.url)), {
      // It needs nothing of the server's environment, which has secrets.
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
      const gone = () => {
        if (current?.child === child) current = undefined
        served.clear()
        reject(new Error("the egress process ended"))
      }
      child.on("error", gone).on("exit", gone)
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
        // A socket that stayed open here would take connections and queries that nothing here answers.
        const close = () => socket.close(() => resolve())
        if (current?.child.connected) current.child.send({ network, port } satisfies Order, socket, close)
        else close()
      }),
    close: (network) => {
      if (served.delete(network)) send({ network, close: true })
    },
    end: () => current?.child.kill()
  }
}
