/** Connections to what listens in a sandbox, by way of the address that Vercel gives each declared port. */
import type { Port, PortConnection } from "@castellan/domain/sandbox/Port.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { PortClosed } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Clock, Duration, Effect, Stream } from "effect"
import { connect as connectTcp, type Socket } from "node:net"
import { connect as connectTls } from "node:tls"
import type { Inside } from "./Inside.ts"
import type { Machines } from "./Machines.ts"
import type { Refusal } from "./Refusal.ts"
import { listens } from "./scripts.ts"

/** How long it is taken for known that something listens: a page asks for many things at once. */
const knownFor = Duration.toMillis(Duration.seconds(3))

/** Milliseconds that a connection may take to be made. */
const acceptedWithin = 10_000

interface Address {
  readonly url: URL
  readonly until: number
}

const dial = (url: URL): Effect.Effect<Socket | undefined> =>
  Effect.callback((resume) => {
    const isTls = url.protocol === "https:"
    const host = url.hostname.replace(/^\[|\]$/g, "")
    const to = { host, port: Number(url.port || (isTls ? 443 : 80)), allowHalfOpen: true }
    const socket = isTls ? connectTls({ ...to, servername: host, ALPNProtocols: ["http/1.1"] }) : connectTcp(to)
    const failed = () => {
      socket.destroy()
      resume(Effect.undefined)
    }
    socket.allowHalfOpen = true
    socket.on("error", () => undefined).setNoDelay()
    socket.setTimeout(acceptedWithin, failed)
    socket.once("error", failed)
    socket.once(isTls ? "secureConnect" : "connect", () => {
      socket.off("error", failed).setTimeout(0)
      resume(Effect.succeed(socket))
    })
    return Effect.sync(() => void socket.destroy())
  })

const toConnection = (socket: Socket, host: string, closed: PortClosed, runsStill: Effect.Effect<boolean>) => {
  const pieces = { [Symbol.asyncIterator]: () => socket.iterator({ destroyOnReturn: false }) }
  // A machine that ends closes its connections as a program does that has said all.
  const isWhole = Effect.flatMap(runsStill, (runs) => (runs ? Effect.void : Effect.fail(closed)))
  const connection: PortConnection = {
    host,
    incoming: Stream.concat(
      Stream.fromAsyncIterable<Uint8Array, PortClosed>(pieces, () => closed),
      Stream.fromEffectDrain(isWhole)
    ),
    send: (bytes) =>
      Effect.callback((resume) => {
        if (!socket.writable) return resume(Effect.fail(closed))
        socket.write(bytes, (broken) => resume(broken ? Effect.fail(closed) : Effect.void))
      }),
    end: Effect.sync(() => void socket.end())
  }
  return connection
}

const hexadecimal = (port: Port) => port.toString(16).toUpperCase().padStart(4, "0")

export const make = (machines: Machines, inside: Inside) => {
  const known = new Map<string, Address>()
  const open = new Map<SandboxName, Set<Socket>>()
  const keyOf = (name: SandboxName, port: Port) => `${port} ${name}`

  const keep = (name: SandboxName, socket: Socket) => {
    const all = open.get(name) ?? new Set()
    open.set(name, all.add(socket))
    socket.on("close", () => {
      all.delete(socket)
      if (all.size === 0 && open.get(name) === all) open.delete(name)
    })
  }

  /** Where a port is reached that something listens on: what Vercel has in front of it would answer for nothing, too. */
  const lookUp = Effect.fnUntraced(function* (name: SandboxName, port: Port) {
    const closed = new PortClosed({ name, port })
    const url = yield* machines.inRunning(
      "connect",
      name,
      (session, vm): Effect.Effect<string | undefined, Refusal> => {
        const route = vm.routes.find((one) => one.port === port)
        if (route === undefined) return Effect.undefined
        return Effect.map(inside.run("connect", session, listens, hexadecimal(port)), ({ lines }) =>
          lines.includes("yes") ? route.url : undefined
        )
      }
    )
    return url === undefined ? yield* closed : new URL(url)
  })

  const connect = Effect.fnUntraced(function* (name: SandboxName, port: Port) {
    const closed = new PortClosed({ name, port })
    const key = keyOf(name, port)
    const now = yield* Clock.currentTimeMillis
    const before = known.get(key)
    const url = before !== undefined && before.until > now ? before.url : yield* lookUp(name, port)
    for (const [one, { until }] of known) if (until <= now) known.delete(one)
    if (!known.has(key)) known.set(key, { url, until: now + knownFor })
    const socket = yield* Effect.acquireRelease(dial(url), (socket) => Effect.sync(() => socket?.destroy()))
    if (socket === undefined) {
      known.delete(key)
      return yield* closed
    }
    keep(name, socket)
    const runsStill = Effect.match(machines.running("connect", name), { onFailure: () => false, onSuccess: () => true })
    return toConnection(socket, url.host, closed, runsStill)
  })

  /** Breaks all connections to a sandbox, and forgets where its ports were. */
  const breakAll = (name: SandboxName) =>
    Effect.sync(() => {
      for (const key of known.keys()) if (key.endsWith(` ${name}`)) known.delete(key)
      for (const socket of open.get(name) ?? []) socket.destroy()
    })

  return { connect, breakAll }
}
