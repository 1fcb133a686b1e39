/**
 * The process that forwards the connections of all sandboxes of a server. It ends with the server: a sandbox then has no
 * network until the next server serves it again.
 */
import type { Socket as DatagramSocket } from "node:dgram"
import { readFileSync } from "node:fs"
import type { Server } from "node:net"
import * as Certificates from "./Certificates.ts"
import * as Dialer from "./Dialer.ts"
import { connectionsAtLeast, connectionsAtMost } from "./Egress.ts"
import type { Configuration, Order, Report } from "./messages.ts"
import * as Network from "./Network.ts"

/** Milliseconds between two reports, and between two log lines about unexpected errors. */
const reportEvery = 1000
const logEvery = 10_000

/** The limit of open descriptors. */
const readDescriptorLimit = () => {
  try {
    return Number(/^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"))?.[1] ?? 1024)
  } catch {
    return 1024
  }
}

/** The number of connections of all sandboxes, of two descriptors each, above which a sandbox has only its guaranteed ones. */
const sharedConnections = Math.floor(readDescriptorLimit() / 4)

const networks = new Map<string, Network.Network>()
let dialer: Dialer.Dialer | undefined
let certificates: Certificates.Certificates | undefined

const tell = (report: Report) => {
  // The server may have ended.
  process.send?.(report, undefined, undefined, () => undefined)
}

const become = (user: number) => {
  process.setgroups?.([user])
  process.setgid?.(user)
  process.setuid?.(user)
}

const mayOpen = (openNow: number) => {
  if (openNow < connectionsAtLeast) return true
  let all = 0
  for (const network of networks.values()) all += network.openNow()
  return openNow < connectionsAtMost && all < sharedConnections
}

const configure = ({ authority, hosts, trusted = [], user }: Configuration) => {
  if (user !== undefined) become(user)
  dialer = Dialer.make({
    hosts: new Map(hosts.map(([name, urls]) => [name, urls.map((url) => new URL(url))])),
    trusted
  })
  if (authority !== undefined) certificates = Certificates.make(authority)
}

const obey = (order: Order, handle: Server | DatagramSocket | undefined) => {
  if ("configure" in order) {
    try {
      configure(order.configure)
    } catch (error) {
      console.error("Failed to configure the egress process", error)
      process.exit(1)
    }
    return tell({ ready: true })
  }
  const known = networks.get(order.network)
  if ("inForce" in order) {
    if (known === undefined) networks.set(order.network, Network.make(order.inForce, dialer!, certificates, mayOpen))
    else known.change(order.inForce)
  } else if ("close" in order) {
    known?.close()
    networks.delete(order.network)
  } else if (known === undefined) handle?.close()
  else if (order.port === 53) known.resolve(handle as DatagramSocket)
  else known.listen(handle as Server, order.port)
}

process.on("message", (order: Order, handle) => obey(order, handle as Server | DatagramSocket | undefined))

setInterval(() => {
  for (const [network, { report }] of networks) {
    const { refusals, traffic } = report()
    for (const [refused, times] of refusals) tell({ network, refused, times })
    if (traffic.length > 0) tell({ network, traffic })
  }
}, reportEvery).unref()

process.on("disconnect", () => process.exit(0))
// A terminal sends its interrupt to all processes of its group. This process ends with the server.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => undefined)
// An unhandled error of one connection must not end the others.
let errors = 0
let loggedAt = -Infinity
process.on("uncaughtException", (error) => {
  errors++
  // A sandbox may be able to cause such errors at will.
  if (performance.now() - loggedAt < logEvery) return
  console.error("Egress connection failed", { errors }, error)
  errors = 0
  loggedAt = performance.now()
})
