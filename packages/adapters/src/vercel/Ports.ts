/** Connections to the ports of a sandbox, through the public address that Vercel gives each declared port. */
import type { Port } from "@castellan/domain/sandbox/Port.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { PortClosed } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Clock, Duration, Effect, Option } from "effect"
import { connect as connectTcp, type Socket } from "node:net"
import { connect as connectTls } from "node:tls"
import * as PortConnections from "../sandbox/PortConnections.ts"
import type { Api } from "./Api.ts"
import { isListening } from "./guestScripts.ts"
import type { RequestFailed } from "./RequestFailed.ts"
import type { SandboxVms } from "./SandboxVms.ts"
import type { ScriptRunner } from "./ScriptRunner.ts"

/** Milliseconds for which an address is reused without another look-up: a page requests many files at once. */
const addressLifetime = Duration.toMillis(Duration.seconds(3))

/** Milliseconds that a connection may take to be established. */
const connectTimeout = 10_000

interface Address {
  readonly url: URL
  /** The id of the session in which it was looked up. */
  readonly session: string
  /** Epoch milliseconds. */
  readonly expiresAt: number
}

const dial = (url: URL): Effect.Effect<Socket | undefined> =>
  Effect.callback((resume) => {
    const isTls = url.protocol === "https:"
    const host = url.hostname.replace(/^\[|\]$/g, "")
    const to = { host, port: Number(url.port || (isTls ? 443 : 80)), allowHalfOpen: true }
    const socket = isTls ? connectTls({ ...to, servername: host, ALPNProtocols: ["http/1.1"] }) : connectTcp(to)
    const fail = () => {
      socket.destroy()
      resume(Effect.undefined)
    }
    socket.allowHalfOpen = true
    socket.on("error", () => undefined).setNoDelay()
    socket.setTimeout(connectTimeout, fail)
    socket.once("error", fail)
    socket.once(isTls ? "secureConnect" : "connect", () => {
      socket.off("error", fail).setTimeout(0)
      resume(Effect.succeed(socket))
    })
    return Effect.sync(() => void socket.destroy())
  })

const hexadecimal = (port: Port) => port.toString(16).toUpperCase().padStart(4, "0")

export const make = (api: Api, vms: SandboxVms, scripts: ScriptRunner) => {
  const addresses = new Map<string, Address>()
  const connections = PortConnections.make()
  const keyOf = (name: SandboxName, port: Port) => `${port} ${name}`

  /** The address of a port on which a program listens. Vercel's proxy accepts connections even where none does. */
  const lookUp = Effect.fnUntraced(function* (name: SandboxName, port: Port) {
    const found = yield* vms.useRunning(
      "connect",
      name,
      (session, vm): Effect.Effect<Omit<Address, "expiresAt"> | undefined, RequestFailed> => {
        const route = vm.routes.find((one) => one.port === port)
        if (route === undefined) return Effect.undefined
        return Effect.map(scripts.run("connect", session, isListening, hexadecimal(port)), ({ lines }) =>
          lines.includes("yes") ? { url: new URL(route.url), session: session.sessionId } : undefined
        )
      }
    )
    return found ?? (yield* new PortClosed({ name, port }))
  })

  const connect = Effect.fnUntraced(function* (name: SandboxName, port: Port) {
    const closed = new PortClosed({ name, port })
    const key = keyOf(name, port)
    const now = yield* Clock.currentTimeMillis
    const known = addresses.get(key)
    const { session, url } = known !== undefined && known.expiresAt > now ? known : yield* lookUp(name, port)
    for (const [one, { expiresAt }] of addresses) if (expiresAt <= now) addresses.delete(one)
    if (!addresses.has(key)) addresses.set(key, { url, session, expiresAt: now + addressLifetime })
    const socket = yield* Effect.acquireRelease(dial(url), (socket) => Effect.sync(() => socket?.destroy()))
    if (socket === undefined) {
      addresses.delete(key)
      return yield* closed
    }
    const isStillRunning = Effect.match(api.get(name), {
      onFailure: () => false,
      onSuccess: Option.exists((vm) => vm.status === "running" && vm.currentSession().sessionId === session)
    })
    return connections.over(socket, { name, host: url.host, closed, isStillRunning })
  })

  /** Breaks all connections to a sandbox and forgets the addresses of its ports. */
  const breakAll = (name: SandboxName) =>
    Effect.suspend(() => {
      for (const key of addresses.keys()) if (key.endsWith(` ${name}`)) addresses.delete(key)
      return connections.breakAll(name)
    })

  return { connect, breakAll }
}
