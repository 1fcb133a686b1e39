/** The egress proxy of a sandbox: it runs in the server and reaches the package registry, and nothing else. */
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http"
import { lookup } from "node:dns"
import { BlockList, connect, isIP, type LookupFunction, type Socket } from "node:net"
import type { Duplex } from "node:stream"
import * as ClientHello from "../../network/ClientHello.ts"
import { adoptSocket } from "./Sockets.ts"

/** Connections that a sandbox may have open at once: several times what npm opens. */
const maxConnections = 64

/** Bytes of a request's head, and milliseconds until it must be complete. A TLS ClientHello has the same time limit. */
const maxHeaderSize = 8 * 1024
const headTimeout = 10_000

/** Milliseconds after which a connection without traffic is closed. */
const idleTimeout = 120_000

const notTheRegistry = "Only the package registry can be reached from this sandbox.\n"
const ambiguousRequest = "The request names several hosts, or its body can be read in several ways.\n"

/** A fatal TLS alert, which tells the client why its ClientHello is refused. */
const alert = (description: number) => Buffer.from([21, 3, 1, 0, 2, 2, description])
const decodeError = alert(50)
const unrecognizedName = alert(112)

/** The addresses of this host and of a cloud's metadata service. The registry's name must not resolve to one of them. */
const localAddresses = new BlockList()
localAddresses.addSubnet("0.0.0.0", 8, "ipv4")
localAddresses.addSubnet("127.0.0.0", 8, "ipv4")
localAddresses.addSubnet("169.254.0.0", 16, "ipv4")
localAddresses.addAddress("::", "ipv6")
localAddresses.addAddress("::1", "ipv6")
localAddresses.addSubnet("fe80::", 10, "ipv6")

/** Resolves a name without local addresses: the host's resolver may get a forged answer. */
const lookupRemote: LookupFunction = (name, options, done) =>
  lookup(name, { ...options, all: true }, (error, addresses = []) => {
    const remote = addresses.filter(
      ({ address, family }) => !localAddresses.check(address, family === 6 ? "ipv6" : "ipv4")
    )
    const [first] = remote
    if (error !== null) done(error, "")
    else if (first === undefined) done(new Error(`${name} resolves to an address of this host`), "")
    else if (options.all) done(null, remote)
    else done(null, first.address, first.family)
  })

/** How requests name the registry, and how the proxy connects to it. */
interface Target {
  /** The host and port, as in a `CONNECT` request. */
  readonly authority: string
  readonly dial: { readonly host: string; readonly port: number; readonly lookup?: LookupFunction }
  /** The name in a TLS ClientHello; undefined for an IP address, for which clients send none. */
  readonly serverName: string | undefined
}

const targetOf = (registry: URL): Target => {
  const port = registry.port || (registry.protocol === "https:" ? "443" : "80")
  const host = registry.hostname.replace(/^\[(.*)\]$/, "$1")
  // An administrator who configures `localhost` means this host.
  const dial = { host, port: Number(port), ...(host === "localhost" ? {} : { lookup: lookupRemote }) }
  return { authority: `${registry.hostname}:${port}`, dial, serverName: isIP(host) === 0 ? host : undefined }
}

/** Headers that apply to one hop only. */
const hopByHop = ["connection", "keep-alive", "proxy-authorization", "proxy-connection", "te", "trailer", "upgrade"]

/** Headers by which a proxy names the original host; a server may trust them more than `Host`. */
const forwardingHeader = /^(forwarded|x-forwarded-.*|x-host|x-original-.*|x-rewrite-url)$/

/** The headers that are forwarded to the registry. */
const forwardedHeaders = ({ headers }: IncomingMessage, host: string) => {
  const named = (headers.connection ?? "").toLowerCase().split(",")
  const dropped = new Set([...hopByHop, ...named.map((name) => name.trim()), "host"])
  // Without these, the registry would read the body as another request.
  dropped.delete("transfer-encoding")
  dropped.delete("content-length")
  const kept = Object.entries(headers).filter(([name]) => !dropped.has(name) && !forwardingHeader.test(name))
  return { ...Object.fromEntries(kept), host }
}

/** Whether two servers could parse different requests from it. */
const isAmbiguous = ({ headers, rawHeaders }: IncomingMessage, hosts: ReadonlyArray<string>): boolean => {
  const coding = headers["transfer-encoding"]
  if (coding !== undefined && (coding.toLowerCase() !== "chunked" || headers["content-length"] !== undefined))
    return true
  const framing = rawHeaders.filter((name, index) => index % 2 === 0 && /^(host|content-length)$/i.test(name))
  if (new Set(framing.map((name) => name.toLowerCase())).size < framing.length) return true
  return !hosts.includes(headers.host?.toLowerCase() ?? "")
}

/**
 * Collects bytes, `early` first, until `read` returns a result, then pauses the stream and calls `done`. Calls `ended` if the
 * stream ends first.
 */
const readUntil = <A>(
  stream: Duplex,
  early: Buffer,
  read: (bytes: Buffer) => A | undefined,
  done: (result: A, bytes: Buffer) => void,
  ended: () => void
) => {
  let bytes = Buffer.alloc(0)
  const onData = (chunk: Buffer) => {
    bytes = Buffer.concat([bytes, chunk])
    const result = read(bytes)
    if (result === undefined) return
    stream.off("data", onData).off("end", ended).pause()
    done(result, bytes)
  }
  stream.on("data", onData).once("end", ended).resume()
  onData(early)
}

/** Copies bytes both ways until both sides have ended. If one side breaks, so does the other. */
const pipeBothWays = (one: Duplex, other: Duplex) => {
  for (const [from, to] of [
    [one, other],
    [other, one]
  ] as const) {
    from.pipe(to)
    from.on("error", () => to.destroy())
    from.on("close", () => from.readableEnded || to.destroy())
  }
}

/** The timers by which a request's head, or a ClientHello, must be complete. */
const headTimers = new WeakMap<Duplex, NodeJS.Timeout>()

const startHeadTimer = (socket: Duplex) => {
  headTimers.set(
    socket,
    setTimeout(() => socket.destroy(), headTimeout)
  )
}

const stopHeadTimer = (socket: Duplex) => clearTimeout(headTimers.get(socket))

/** Runs `act` once a head is complete. An unforeseen error breaks the connection, and not the server. */
const guarded = (socket: Duplex, act: () => void) => {
  stopHeadTimer(socket)
  try {
    act()
  } catch {
    socket.destroy()
  }
}

/** Forwards a plain HTTP request to the registry. */
const forward = (
  { authority, dial }: Target,
  registry: URL,
  incoming: IncomingMessage,
  response: ServerResponse
): void => {
  const path = pathAtRegistry(registry, authority, incoming)
  response.shouldKeepAlive = false
  if (path === undefined) return void response.writeHead(403).end(notTheRegistry)
  if (isAmbiguous(incoming, [registry.host, authority])) return void response.writeHead(400).end(ambiguousRequest)
  const headers = forwardedHeaders(incoming, registry.host)
  const outgoing = request({ ...dial, agent: false, method: incoming.method, path, headers })
  outgoing.on("response", (answer) =>
    guarded(incoming.socket, () => {
      const kept = Object.entries(answer.headers).filter(([name]) => !hopByHop.includes(name))
      response.writeHead(answer.statusCode ?? 502, Object.fromEntries(kept))
      answer.pipe(response)
      answer.on("error", () => response.destroy())
    })
  )
  outgoing.on("error", () => (response.headersSent ? response.destroy() : response.writeHead(502).end()))
  // At once, so that headers that can't be sent throw here, where the error is caught.
  outgoing.flushHeaders()
  incoming.pipe(outgoing)
  response.on("close", () => outgoing.destroy())
}

/** The path of a request that a client sends to a proxy with a full URL; undefined if the URL is not the registry's. */
const pathAtRegistry = (registry: URL, authority: string, { url = "" }: IncomingMessage): string | undefined => {
  if (registry.protocol !== "http:" || !URL.canParse(url)) return undefined
  const { hostname, password, pathname, port, protocol, search, username } = new URL(url)
  const isRegistry = protocol === "http:" && `${hostname}:${port || "80"}`.toLowerCase() === authority
  return isRegistry && username + password === "" ? pathname + search : undefined
}

/** Answers a `CONNECT` request with a tunnel to the registry. */
const tunnel = (
  { authority, dial, serverName }: Target,
  registry: URL,
  incoming: IncomingMessage,
  socket: Duplex,
  early: Buffer
): void => {
  const refuse = (status: string, body: string) =>
    socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: ${body.length}\r\n\r\n${body}`)
  // In a tunnel to a plain HTTP registry the sandbox would choose the host.
  const isRegistry = registry.protocol === "https:" && (incoming.url ?? "").toLowerCase() === authority
  if (!isRegistry) return void refuse("403 Forbidden", notTheRegistry)
  const upstream = connect({ ...dial, allowHalfOpen: true })
  const onUnreachable = () => refuse("502 Bad Gateway", "")
  upstream.once("error", onUnreachable)
  socket.on("close", () => upstream.destroy())
  upstream.once("connect", () => {
    upstream.off("error", onUnreachable)
    upstream.on("error", () => socket.destroy())
    socket.write("HTTP/1.1 200 Connection Established\r\n\r\n")
    relayTls(serverName, socket, upstream, early)
  })
}

/**
 * Connects a TLS client to the registry once its ClientHello names the registry. If the registry answers with a
 * HelloRetryRequest, the second ClientHello is checked as well.
 */
const relayTls = (serverName: string | undefined, socket: Duplex, upstream: Socket, early: Buffer): void => {
  startHeadTimer(socket)
  const breakOff = () => {
    socket.destroy()
    upstream.destroy()
  }
  const refuse = (reason: Buffer) => {
    upstream.destroy()
    socket.resume().end(reason)
  }
  const check = (read: typeof ClientHello.read, from: Buffer, passed: (hello: Buffer, rest: Buffer) => void) => {
    const readComplete = (bytes: Buffer) => {
      const hello = read(bytes)
      return hello._tag === "Partial" ? undefined : hello
    }
    const judge = (hello: NonNullable<ReturnType<typeof readComplete>>, bytes: Buffer) => {
      if (hello._tag === "Malformed") return refuse(decodeError)
      if (hello.isHidden || hello.name !== serverName) return refuse(unrecognizedName)
      passed(bytes.subarray(0, hello.end), bytes.subarray(hello.end))
    }
    readUntil(socket, from, readComplete, judge, breakOff)
  }
  const relay = (bytes: Buffer) => {
    stopHeadTimer(socket)
    upstream.write(bytes)
    pipeBothWays(socket, upstream)
  }
  check(ClientHello.read, early, (hello, rest) => {
    upstream.write(hello)
    const onAnswer = (isRetryRequest: boolean, answer: Buffer) => {
      socket.write(answer)
      if (!isRetryRequest) return relay(rest)
      check(ClientHello.readRetry, rest, (retry, afterRetry) => relay(Buffer.concat([retry, afterRetry])))
    }
    readUntil(upstream, Buffer.alloc(0), ClientHello.isRetryRequest, onAnswer, () => socket.end())
  })
}

export interface Egress {
  /** Serves a connection that a program inside has opened. */
  readonly serve: (socket: Socket | undefined) => void
  /** Breaks all connections. */
  readonly close: () => void
}

export const make = (registry: URL): Egress => {
  const target = targetOf(registry)
  const open = new Set<Socket>()
  const server = createServer({ maxHeaderSize }, (incoming, response) =>
    guarded(incoming.socket, () => forward(target, registry, incoming, response))
  )
  server.on("connect", (incoming, socket, early) =>
    guarded(socket, () => tunnel(target, registry, incoming, socket, early))
  )

  const serve = (given: Socket | undefined) => {
    if (given === undefined) return
    const socket = adoptSocket(given)
    if (open.size >= maxConnections) return void socket.destroy()
    open.add(socket)
    socket.setTimeout(idleTimeout, () => socket.destroy())
    startHeadTimer(socket)
    socket.on("close", () => {
      open.delete(socket)
      stopHeadTimer(socket)
    })
    // The server does not listen, so Node does not enforce its own timeouts.
    server.emit("connection", socket)
  }

  const close = () => {
    for (const socket of open) socket.destroy()
  }

  return { serve, close }
}
