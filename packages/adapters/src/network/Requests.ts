/** Forwards the HTTP/1.1 requests of a sandbox that its network policy allows, with the headers that the policy sets. */
import { type Attempt, decideRequest, type DenialReason } from "@castellan/domain/network/decide.ts"
import type { HeaderValue } from "@castellan/domain/network/NetworkPolicy.ts"
import {
  Agent,
  createServer,
  type IncomingMessage,
  request,
  type RequestOptions,
  type ServerResponse,
  STATUS_CODES
} from "node:http"
import type { Socket } from "node:net"
import type { Duplex } from "node:stream"
import { TLSSocket } from "node:tls"
import type { Target } from "./Dialer.ts"
import type { EgressOptions, RefusalReason } from "./Egress.ts"

/** Bytes that the head of a request may have, and milliseconds it may take. */
const headSize = 32 * 1024
const headWithin = 10_000

/** Headers that concern one connection only (RFC 9110, 7.6.1), but for those that frame the body. */
const hopByHop = new Set([
  "connection",
  "keep-alive",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "upgrade"
])

const explanations: Partial<Record<RefusalReason, string>> = {
  no_network: "this sandbox has no network",
  host_not_allowed: "the network policy of this sandbox does not allow the host",
  port_not_allowed: "the network policy of this sandbox does not allow the port",
  path_not_allowed: "the network policy of this sandbox does not allow the path",
  method_not_allowed: "the network policy of this sandbox does not allow the method",
  name_mismatch: "the request names another host than the connection was made to"
}

const bodyOf = ({ host, port }: Attempt, reason: RefusalReason) =>
  `Castellan: ${explanations[reason]} (${host}:${port}, ${reason}).\n`

/** The whole answer to a request on a connection that is refused, before any of it is read. */
export const forbidden = (attempt: Attempt, reason: DenialReason): Buffer => {
  const body = bodyOf(attempt, reason)
  const head = [
    "HTTP/1.1 403 Forbidden",
    "Connection: close",
    "Content-Type: text/plain",
    `Content-Length: ${body.length}`
  ]
  return Buffer.from(`${head.join("\r\n")}\r\n\r\n${body}`)
}

/** Whether two servers could read different requests in it. */
const isAmbiguous = ({ headers, rawHeaders }: IncomingMessage): boolean => {
  const coding = headers["transfer-encoding"]
  if (coding !== undefined && (coding.toLowerCase() !== "chunked" || headers["content-length"] !== undefined))
    return true
  const repeatable = rawHeaders.filter((name, at) => at % 2 === 0 && /^(host|content-length)$/i.test(name))
  return new Set(repeatable.map((name) => name.toLowerCase())).size < repeatable.length
}

/** Headers of a message without those of its connection. */
const endToEnd = (message: IncomingMessage): Record<string, string | ReadonlyArray<string>> => {
  const named = (message.headers.connection ?? "")
    .toLowerCase()
    .split(",")
    .map((name) => name.trim())
  const kept = Object.entries(message.headersDistinct).filter(
    ([name]) =>
      !hopByHop.has(name) && (!named.includes(name) || name === "content-length" || name === "transfer-encoding")
  )
  return Object.fromEntries(kept.map(([name, values]) => [name, values!.length === 1 ? values![0]! : values!]))
}

export const make = ({ carried, dialer, policy, refused, secretOf }: EgressOptions) => {
  const attempts = new WeakMap<Duplex, Attempt>()

  /** Connections to hosts, kept for further requests of this sandbox. */
  const agentOver = (dial: (target: Target) => Socket) => {
    const agent = new Agent({ keepAlive: true, maxFreeSockets: 16, timeout: 60_000 })
    agent.createConnection = (options) => {
      const target = { host: options.host!, port: Number(options.port) }
      const socket = dial(target).setNoDelay()
      socket.on("close", () => carried(target.host, socket.bytesWritten, socket.bytesRead))
      return socket
    }
    return agent
  }
  const plain = agentOver((target) => dialer.dial(target, false))
  const secure = agentOver(dialer.dialTls)

  const textOf = (value: HeaderValue): string | undefined => {
    if (typeof value === "string") return value
    const text = secretOf(value.secret)
    return text === undefined ? undefined : (value.prefix ?? "") + text
  }

  /** The request to be sent, or why it is not. */
  const judge = (
    incoming: IncomingMessage,
    attempt: Attempt
  ): { readonly options: RequestOptions } | { readonly reason: RefusalReason } | { readonly status: number } => {
    const { host, port } = attempt
    const url = incoming.url ?? ""
    if (!url.startsWith("/") || isAmbiguous(incoming)) return { status: 400 }
    const named = (incoming.headers.host ?? "").toLowerCase()
    const isTls = incoming.socket instanceof TLSSocket
    if (named !== `${host}:${port}` && !(named === host && port === (isTls ? 443 : 80)))
      return { reason: "name_mismatch" }
    const [path = ""] = url.split("?", 1)
    const decision = decideRequest(policy(), { host, port, method: incoming.method ?? "", path })
    if (decision._tag === "Deny") return { reason: decision.reason }
    const set: Record<string, string> = {}
    for (const [name, value] of Object.entries(decision.headers)) {
      const text = textOf(value)
      if (text === undefined) return { status: 503 }
      set[name] = text
    }
    const headers = { ...endToEnd(incoming), ...set, host: incoming.headers.host! } as Record<
      string,
      string | Array<string>
    >
    return {
      options: {
        host,
        port,
        path: url,
        method: incoming.method ?? "GET",
        headers,
        agent: isTls ? secure : plain,
        setHost: false
      }
    }
  }

  const refuse = (answer: ServerResponse, attempt: Attempt, reason: RefusalReason) => {
    refused({ ...attempt, reason })
    answer.writeHead(403, { "content-type": "text/plain", connection: "close" }).end(bodyOf(attempt, reason))
  }

  const forward = (incoming: IncomingMessage, answer: ServerResponse, continues: boolean) => {
    const attempt = attempts.get(incoming.socket)!
    const judged = judge(incoming, attempt)
    if ("status" in judged) return void answer.writeHead(judged.status, { connection: "close" }).end()
    if ("reason" in judged) return refuse(answer, attempt, judged.reason)
    const outgoing = request(judged.options)
    outgoing.on("continue", () => continues && answer.writeContinue())
    outgoing.on("response", (response) => {
      answer.writeHead(response.statusCode ?? 502, response.statusMessage, endToEnd(response) as Record<string, string>)
      // Events of a server that sends slowly reach the sandbox one by one.
      answer.flushHeaders()
      response.pipe(answer)
      response.on("error", () => answer.destroy())
    })
    outgoing.on("error", () => {
      if (answer.headersSent) answer.destroy()
      else answer.writeHead(502, { connection: "close" }).end(`Castellan: ${attempt.host} can't be reached.\n`)
    })
    answer.on("close", () => outgoing.destroy())
    outgoing.flushHeaders()
    incoming.pipe(outgoing)
  }

  /** Forwards a request to change the protocol, as web sockets begin. */
  const upgrade = (incoming: IncomingMessage, client: Duplex, early: Buffer) => {
    const attempt = attempts.get(client)!
    const judged = judge(incoming, attempt)
    const end = (status: number) =>
      client.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\n\r\n`)
    if (!("options" in judged)) {
      if ("reason" in judged) refused({ ...attempt, reason: judged.reason })
      return void end("status" in judged ? judged.status : 403)
    }
    const headers = { ...judged.options.headers, connection: "Upgrade", upgrade: incoming.headers.upgrade ?? "" }
    const outgoing = request({ ...judged.options, headers })
    client.on("close", () => outgoing.destroy()).on("error", () => outgoing.destroy())
    outgoing.on("error", () => end(502))
    const headOf = ({ rawHeaders, statusCode, statusMessage }: IncomingMessage) => {
      const lines = rawHeaders.flatMap((name, at) => (at % 2 === 0 ? [`${name}: ${rawHeaders[at + 1]}`] : []))
      return `HTTP/1.1 ${statusCode} ${statusMessage}\r\n${lines.join("\r\n")}\r\n\r\n`
    }
    outgoing.on("upgrade", (response, server, first) => {
      client.write(headOf(response))
      client.write(first)
      server.write(early)
      client.pipe(server).pipe(client)
      server.on("error", () => client.destroy()).on("close", () => client.destroy())
      client.on("close", () => server.destroy())
    })
    outgoing.on("response", (response) => {
      client.write(headOf(response))
      response.pipe(client)
    })
    outgoing.end()
  }

  /** What was not foreseen in a message breaks its own connection, and not the gateway. */
  const guarded = (socket: Duplex, act: () => void) => {
    try {
      act()
    } catch {
      socket.destroy()
    }
  }

  const server = createServer({
    maxHeaderSize: headSize,
    headersTimeout: headWithin,
    requestTimeout: 0,
    keepAliveTimeout: 60_000
  })
  server.on("request", (incoming, answer) => guarded(incoming.socket, () => forward(incoming, answer, false)))
  server.on("checkContinue", (incoming, answer) => guarded(incoming.socket, () => forward(incoming, answer, true)))
  server.on("upgrade", (incoming, socket, early) => guarded(socket, () => upgrade(incoming, socket, early)))
  server.on("connect", (_incoming, socket) => socket.destroy())

  return {
    /** Serves the requests on a connection, of which the first bytes were read already. */
    serve: (client: Socket, attempt: Attempt, early: Buffer) => {
      attempts.set(client, attempt)
      if (early.length > 0) client.unshift(early)
      server.emit("connection", client)
      // The parser takes later bytes from the kernel by itself; those that were read already have to be handed to it.
      client.resume()
    },
    close: () => {
      plain.destroy()
      secure.destroy()
      server.closeAllConnections()
    }
  }
}
