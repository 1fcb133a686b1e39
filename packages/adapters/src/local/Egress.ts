/** The way out of a sandbox: a proxy in the server that reaches the registry of packages, and nothing else. */
import { lookup } from "node:dns"
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http"
import { BlockList, connect, type LookupFunction, type Socket } from "node:net"
import type { Duplex } from "node:stream"
import { held } from "./Sockets.ts"

/** Connections that a sandbox may have open at once: several times what npm opens. */
const atOnce = 64

/** Bytes that the head of a request may have, and milliseconds it may take. */
const headSize = 8 * 1024
const headWithin = 10_000

/** Milliseconds after which a connection is closed on which nothing comes or goes. */
const idleWithin = 120_000

const refusal = "Only the registry of packages can be reached from this sandbox.\n"

/** Addresses of this host, and of what a cloud tells its machines; the registry's name has no business there. */
const near = new BlockList()
near.addSubnet("0.0.0.0", 8, "ipv4")
near.addSubnet("127.0.0.0", 8, "ipv4")
near.addSubnet("169.254.0.0", 16, "ipv4")
near.addAddress("::", "ipv6")
near.addAddress("::1", "ipv6")
near.addSubnet("fe80::", 10, "ipv6")

/** The addresses of a name that are not near: the host's own resolver may be lied to. */
const lookupFar: LookupFunction = (name, options, done) =>
  lookup(name, { ...options, all: true }, (error, addresses = []) => {
    const far = addresses.filter(({ address, family }) => !near.check(address, family === 6 ? "ipv6" : "ipv4"))
    const [first] = far
    if (error !== null) done(error, "")
    else if (first === undefined) done(new Error(`${name} is an address of this host`), "")
    else if (options.all) done(null, far)
    else done(null, first.address, first.family)
  })

/** How the registry is named in a request, and how it is reached. */
const targetOf = (registry: URL) => {
  const port = registry.port || (registry.protocol === "https:" ? "443" : "80")
  const host = registry.hostname.replace(/^\[(.*)\]$/, "$1")
  // Who names this host means this host.
  const dial = { host, port: Number(port), ...(host === "localhost" ? {} : { lookup: lookupFar }) }
  return { authority: `${registry.hostname}:${port}`, dial }
}

/** What is between two hops only. */
const ofOneHop = ["connection", "keep-alive", "proxy-authorization", "proxy-connection", "te", "trailer", "upgrade"]

/** Carries bytes both ways until both are done; when one breaks off, so does the other. */
const join = (one: Duplex, other: Duplex) => {
  for (const [from, to] of [
    [one, other],
    [other, one]
  ] as const) {
    from.pipe(to)
    from.on("error", () => to.destroy())
    from.on("close", () => from.readableEnded || to.destroy())
  }
}

export interface Egress {
  /** Serves a connection that was opened inside. */
  readonly serve: (socket: Socket | undefined) => void
  /** Breaks all connections. */
  readonly close: () => void
}

export const make = (registry: URL): Egress => {
  const { authority, dial } = targetOf(registry)
  const open = new Set<Socket>()
  const heads = new WeakMap<Duplex, NodeJS.Timeout>()

  const isNamed = (asked: string) => asked.toLowerCase() === authority

  /** The path at the registry that a request names whole, as it is asked of a proxy. */
  const pathOf = ({ url = "" }: IncomingMessage): string | undefined => {
    if (registry.protocol !== "http:" || !URL.canParse(url)) return undefined
    const asked = new URL(url)
    const isPlain = asked.protocol === "http:" && isNamed(`${asked.hostname}:${asked.port || "80"}`)
    return isPlain ? asked.pathname + asked.search : undefined
  }

  const forward = (asked: IncomingMessage, answer: ServerResponse) => {
    const path = pathOf(asked)
    answer.shouldKeepAlive = false
    if (path === undefined) return void answer.writeHead(403).end(refusal)
    const headers = Object.fromEntries(Object.entries(asked.headers).filter(([name]) => !ofOneHop.includes(name)))
    const onward = request({ ...dial, agent: false, method: asked.method, path, headers })
    onward.on("response", (given) =>
      guarded(asked.socket, () => {
        const kept = Object.entries(given.headers).filter(([name]) => !ofOneHop.includes(name))
        answer.writeHead(given.statusCode ?? 502, Object.fromEntries(kept))
        given.pipe(answer)
        given.on("error", () => answer.destroy())
      })
    )
    onward.on("error", () => (answer.headersSent ? answer.destroy() : answer.writeHead(502).end()))
    // At once: where a head can't be sent on, that is to be seen here and not later, where nobody is to catch it.
    onward.flushHeaders()
    asked.pipe(onward)
    answer.on("close", () => onward.destroy())
  }

  const tunnel = (asked: IncomingMessage, socket: Duplex, early: Buffer) => {
    const answer = (status: string, body: string) =>
      socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: ${body.length}\r\n\r\n${body}`)
    if (!isNamed(asked.url ?? "")) return void answer("403 Forbidden", refusal)
    const onward = connect({ ...dial, allowHalfOpen: true })
    const unreached = () => answer("502 Bad Gateway", "")
    onward.once("error", unreached)
    socket.on("close", () => onward.destroy())
    onward.once("connect", () => {
      onward.off("error", unreached)
      socket.write("HTTP/1.1 200 Connection Established\r\n\r\n")
      onward.write(early)
      join(socket, onward)
    })
  }

  /** What was not foreseen in a head, of either side, breaks its own connection and not the server. */
  const guarded = (socket: Duplex, act: () => void) => {
    clearTimeout(heads.get(socket))
    try {
      act()
    } catch {
      socket.destroy()
    }
  }

  const server = createServer({ maxHeaderSize: headSize }, (asked, answer) =>
    guarded(asked.socket, () => forward(asked, answer))
  )
  server.on("connect", (asked, socket, early) => guarded(socket, () => tunnel(asked, socket, early)))

  const serve = (given: Socket | undefined) => {
    if (given === undefined) return
    const socket = held(given)
    if (open.size >= atOnce) return void socket.destroy()
    open.add(socket)
    socket.setTimeout(idleWithin, () => socket.destroy())
    const late = setTimeout(() => socket.destroy(), headWithin)
    heads.set(socket, late)
    socket.on("close", () => {
      open.delete(socket)
      clearTimeout(late)
    })
    // The server listens nowhere, and so keeps no times itself.
    server.emit("connection", socket)
  }

  const close = () => {
    for (const socket of open) socket.destroy()
  }

  return { serve, close }
}
