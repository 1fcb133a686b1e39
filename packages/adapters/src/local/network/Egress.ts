/** The way out of a sandbox: a proxy in the server that reaches the registry of packages, and nothing else. */
import { lookup } from "node:dns"
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http"
import { BlockList, connect, isIP, type LookupFunction, type Socket } from "node:net"
import type { Duplex } from "node:stream"
import * as ClientHello from "./ClientHello.ts"
import { held } from "./Sockets.ts"

/** Connections that a sandbox may have open at once: several times what npm opens. */
const atOnce = 64

/** Bytes that the head of a request may have, and milliseconds it may take; a TLS client's hello may take as long. */
const headSize = 8 * 1024
const headWithin = 10_000

/** Milliseconds after which a connection is closed on which nothing comes or goes. */
const idleWithin = 120_000

const refusal = "Only the registry of packages can be reached from this sandbox.\n"
const ambiguous = "The request names several hosts, or its body can be read in several ways.\n"

/** A fatal alert of TLS, by which a client learns why its hello is refused. */
const alert = (description: number) => Buffer.from([21, 3, 1, 0, 2, 2, description])
const decodeError = alert(50)
const unrecognizedName = alert(112)

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
  // An address is no server name in TLS: who means one sends none.
  return { authority: `${registry.hostname}:${port}`, dial, serverName: isIP(host) === 0 ? host : undefined }
}

/** Headers that are between two hops only. */
const ofOneHop = ["connection", "keep-alive", "proxy-authorization", "proxy-connection", "te", "trailer", "upgrade"]

/** Headers by which a proxy says what it was asked for; a server may believe them more than `Host`. */
const ofProxies = /^(forwarded|x-forwarded-.*|x-host|x-original-.*|x-rewrite-url)$/

/** The headers that go to the registry. */
const headersOf = ({ headers }: IncomingMessage, host: string) => {
  const named = (headers.connection ?? "").toLowerCase().split(",")
  const dropped = new Set([...ofOneHop, ...named.map((name) => name.trim()), "host"])
  // Without it the body would go on as another request.
  dropped.delete("transfer-encoding")
  dropped.delete("content-length")
  const kept = Object.entries(headers).filter(([name]) => !dropped.has(name) && !ofProxies.test(name))
  return { ...Object.fromEntries(kept), host }
}

/** Whether two servers could read different requests in it. */
const isAmbiguous = ({ headers, rawHeaders }: IncomingMessage, hosts: ReadonlyArray<string>): boolean => {
  const coding = headers["transfer-encoding"]
  if (coding !== undefined && (coding.toLowerCase() !== "chunked" || headers["content-length"] !== undefined))
    return true
  const repeated = rawHeaders.filter((name, at) => at % 2 === 0 && /^(host|content-length)$/i.test(name))
  if (new Set(repeated.map((name) => name.toLowerCase())).size < repeated.length) return true
  return !hosts.includes(headers.host?.toLowerCase() ?? "")
}

/**
 * Gathers what comes, `early` first, until `read` makes something of it, and then pauses. `ended` is called where there is
 * no more before that.
 */
const gather = <A>(
  from: Duplex,
  early: Buffer,
  read: (bytes: Buffer) => A | undefined,
  done: (found: A, bytes: Buffer) => void,
  ended: () => void
) => {
  let bytes = Buffer.alloc(0)
  const take = (more: Buffer) => {
    bytes = Buffer.concat([bytes, more])
    const found = read(bytes)
    if (found === undefined) return
    from.off("data", take).off("end", ended).pause()
    done(found, bytes)
  }
  from.on("data", take).once("end", ended).resume()
  take(early)
}

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
  const { authority, dial, serverName } = targetOf(registry)
  const open = new Set<Socket>()
  const heads = new WeakMap<Duplex, NodeJS.Timeout>()

  const isNamed = (asked: string) => asked.toLowerCase() === authority

  /** The path at the registry that a request names whole, as it is asked of a proxy. */
  const pathOf = ({ url = "" }: IncomingMessage): string | undefined => {
    if (registry.protocol !== "http:" || !URL.canParse(url)) return undefined
    const asked = new URL(url)
    const isPlain = asked.protocol === "http:" && isNamed(`${asked.hostname}:${asked.port || "80"}`)
    return isPlain && asked.username + asked.password === "" ? asked.pathname + asked.search : undefined
  }

  const forward = (asked: IncomingMessage, answer: ServerResponse) => {
    const path = pathOf(asked)
    answer.shouldKeepAlive = false
    if (path === undefined) return void answer.writeHead(403).end(refusal)
    if (isAmbiguous(asked, [registry.host, authority])) return void answer.writeHead(400).end(ambiguous)
    const headers = headersOf(asked, registry.host)
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
    // In a tunnel to a plain registry the sandbox would choose the host.
    if (registry.protocol !== "https:" || !isNamed(asked.url ?? "")) return void answer("403 Forbidden", refusal)
    const onward = connect({ ...dial, allowHalfOpen: true })
    const unreached = () => answer("502 Bad Gateway", "")
    onward.once("error", unreached)
    socket.on("close", () => onward.destroy())
    onward.once("connect", () => {
      onward.off("error", unreached)
      onward.on("error", () => socket.destroy())
      socket.write("HTTP/1.1 200 Connection Established\r\n\r\n")
      introduce(socket, onward, early)
    })
  }

  /**
   * Connects a TLS client to the registry after its ClientHello has named the registry. If the registry answers with a
   * HelloRetryRequest, the second ClientHello is checked as well.
   */
  const introduce = (socket: Duplex, onward: Socket, early: Buffer) => {
    heads.set(
      socket,
      setTimeout(() => socket.destroy(), headWithin)
    )
    const over = () => {
      socket.destroy()
      onward.destroy()
    }
    const refuse = (why: Buffer) => {
      onward.destroy()
      socket.resume().end(why)
    }
    const checked = (read: typeof ClientHello.read, from: Buffer, passed: (hello: Buffer, more: Buffer) => void) => {
      const complete = (bytes: Buffer) => {
        const hello = read(bytes)
        return hello._tag === "Partial" ? undefined : hello
      }
      const judge = (hello: NonNullable<ReturnType<typeof complete>>, bytes: Buffer) => {
        if (hello._tag === "Malformed") return refuse(decodeError)
        if (hello.isHidden || hello.name !== serverName) return refuse(unrecognizedName)
        passed(bytes.subarray(0, hello.end), bytes.subarray(hello.end))
      }
      gather(socket, from, complete, judge, over)
    }
    const joined = (bytes: Buffer) => {
      clearTimeout(heads.get(socket))
      onward.write(bytes)
      join(socket, onward)
    }
    checked(ClientHello.read, early, (hello, more) => {
      onward.write(hello)
      const answered = (asksAgain: boolean, answer: Buffer) => {
        socket.write(answer)
        if (!asksAgain) return joined(more)
        checked(ClientHello.readAgain, more, (again, rest) => joined(Buffer.concat([again, rest])))
      }
      const ended = () => socket.end()
      gather(onward, Buffer.alloc(0), ClientHello.asksAgain, answered, ended)
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
      clearTimeout(heads.get(socket))
    })
    // The server listens nowhere, and so keeps no times itself.
    server.emit("connection", socket)
  }

  const close = () => {
    for (const socket of open) socket.destroy()
  }

  return { serve, close }
}
