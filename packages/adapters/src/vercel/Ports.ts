/** Connections to what listens in a sandbox, by way of the address that Vercel gives each declared port. */
import type { Port } from "@castellan/domain/sandbox/Port.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { PortClosed } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Clock, Duration, Effect, Option } from "effect"
import { connect as connectTcp, type Socket } from "node:net"
import { connect as connectTls } from "node:tls"
import * as Connections from "../sandbox/PortConnections.ts"
import type { Api } from "./Api.ts"
import type { ScriptRunner } from "./ScriptRunner.ts"
import type { SandboxVms } from "./SandboxVms.ts"
import type { RequestFailed } from "./RequestFailed.ts"
import { isListening } from "./guestScripts.ts"

/** How long it is taken for known that something listens: a page asks for many things at once. */
const knownFor = Duration.toMillis(Duration.seconds(3))

/** Milliseconds that a connection may take to be made. */
const acceptedWithin = 10_000

interface Address {
  readonly url: URL
  /** The session it was looked up in. */
  readonly session: string
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

const hexadecimal = (port: Port) => port.toString(16).toUpperCase().padStart(4, "0")

export const make = (api: Api, machines: SandboxVms, inside: ScriptRunner) => {
  const known = new Map<string, Address>()
  const connections = Connections.make()
  const keyOf = (name: SandboxName, port: Port) => `${port} ${name}`

  /** Where a port is reached that something listens on: what Vercel has in front of it would answer for nothing, too. */
  const lookUp = Effect.fnUntraced(function* (name: SandboxName, port: Port) {
    const closed = new PortClosed({ name, port })
    const found = yield* machines.inRunning(
      "connect",
      name,
      (session, vm): Effect.Effect<Omit<Address, "until"> | undefined, RequestFailed> => {
        const route = vm.routes.find((one) => one.port === port)
        if (route === undefined) return Effect.undefined
        return Effect.map(inside.run("connect", session, isListening, hexadecimal(port)), ({ lines }) =>
          lines.includes("yes") ? { url: new URL(route.url), session: session.sessionId } : undefined
        )
      }
    )
    return found ?? (yield* closed)
  })

  const connect = Effect.fnUntraced(function* (name: SandboxName, port: Port) {
    const closed = new PortClosed({ name, port })
    const key = keyOf(name, port)
    const now = yield* Clock.currentTimeMillis
    const before = known.get(key)
    const { session, url } = before !== undefined && before.until > now ? before : yield* lookUp(name, port)
    for (const [one, { until }] of known) if (until <= now) known.delete(one)
    if (!known.has(key)) known.set(key, { url, session, until: now + knownFor })
    const socket = yield* Effect.acquireRelease(dial(url), (socket) => Effect.sync(() => socket?.destroy()))
    if (socket === undefined) {
      known.delete(key)
      return yield* closed
    }
    const isStillRunning = Effect.match(api.get(name), {
      onFailure: () => false,
      onSuccess: Option.exists((vm) => vm.status === "running" && vm.currentSession().sessionId === session)
    })
    return connections.over(socket, { name, host: url.host, closed, isStillRunning })
  })

  /** Breaks all connections to a sandbox, and forgets where its ports were. */
  const breakAll = (name: SandboxName) =>
    Effect.suspend(() => {
      for (const key of known.keys()) if (key.endsWith(` ${name}`)) known.delete(key)
      return connections.breakAll(name)
    })

  return { connect, breakAll }
}
