/** Forwards the HTTP/1.1 requests of a sandbox that its network policy allows, with the headers that the policy sets. */
import {
  type Attempt,
  decideRequest,
  type DenialReason,
  type RequestAttempt
} from "@castellan/domain/network/decide.ts"
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

/** The maximum size of a request's head in bytes, and its timeout in milliseconds. */
const headSize = 32 * 1024
const defaultHeadWithin = 10_000

/** The maximum number of pipelined requests on a connection. One more closes the connection. */
const waitingAtMost = 16

/** The maximum number of idle upstream connections to all hosts together. */
const idleAtMost = 32

/** Hop-by-hop headers (RFC 9110, 7.6.1) without those that frame the body. */
const hopByHop = new Set([
  "connection",
  "keep-alive",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "upgrade"
])

/** Headers that override the method or path of a request at some servers, in the form of `canonical`. */
const overriding = new Set([
  "x-http-method",
  "x-http-method-override",
  "x-method-override",
  "x-original-url",
  "x-rewrite-url"
])

/** A header's name in the form in which some servers compare names: `_` and `-` are equal. */
const canonical = (name: string) => name.replaceAll("_", "-")

const explanations: Partial<Record<RefusalReason, string>> = {
  no_network: "this sandbox has no network",
  host_not_allowed: "the network policy of this sandbox does not allow the host",
  port_not_allowed: "the network policy of this sandbox does not allow the port",
  path_not_allowed: "the network policy of this sandbox does not allow the path",
  method_not_allowed: "the network policy of this sandbox does not allow the method",
  tls_required: "the network policy of this sandbox allows the request with TLS only",
  name_mismatch: "the request names another host than the connection was made to"
}

const bodyOf = ({ host, port }: Attempt, reason: RefusalReason) =>
  `Castellan: ${explanations[reason]} (${host}:${port}, ${reason}).\n`

/** The complete response to a request on a refused connection, which is not read. */
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

/** Whether two servers could parse different requests from it. */
const isAmbiguous = ({ headers, rawHeaders }: IncomingMessage): boolean => {
  const coding = headers["transfer-encoding"]
  if (coding !== undefined && (coding.toLowerCase() !== "chunked" || headers["content-length"] !== undefined))
    return true
  const repeatable = rawHeaders.filter((name, at) => at % 2 === 0 && /^(host|content-length)$/i.test(name))
  return new Set(repeatable.map((name) => name.toLowerCase())).size < repeatable.length
}

/** The end-to-end headers of a message. */
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

/** The headers of a response. The gateway frames the body for the client's HTTP version. */
const responseHeaders = (response: IncomingMessage) => {
  const { "transfer-encoding": coding = "chunked", ...headers } = endToEnd(response)
  if (coding !== "chunked") throw new Error("the body's coding is not known")
  return headers as Record<string, string | Array<string>>
}

/** The head of a response to an upgrade. */
const headOf = ({ rawHeaders, statusCode, statusMessage }: IncomingMessage, more: string, dropped: RegExp) => {
  const lines = rawHeaders.flatMap((name, at) =>
    at % 2 === 0 && !dropped.test(name) ? [`${name}: ${rawHeaders[at + 1]}`] : []
  )
  // Node decodes headers as latin1.
  return Buffer.from(`HTTP/1.1 ${statusCode} ${statusMessage}\r\n${lines.join("\r\n")}${more}\r\n\r\n`, "latin1")
}

export const make = ({ carried, dialer, headWithin = defaultHeadWithin, policy, refused, secretOf }: EgressOptions) => {
  const attempts = new WeakMap<Duplex, Attempt>()
  /** The current request of each connection, or the request that upgraded it. */
  const current = new Map<Duplex, RequestAttempt>()

  /** The upstream connections of this sandbox, which may be reused. */
  const agentOver = (dial: (target: Target) => Socket, keepAlive = true) => {
    const agent = new Agent({ keepAlive, maxFreeSockets: 16, timeout: 60_000 })
    const keepSocketAlive = agent.keepSocketAlive.bind(agent)
    agent.keepSocketAlive = (socket) =>
      Object.values(agent.freeSockets).flat().length < idleAtMost && keepSocketAlive(socket)
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
  const plainOnce = agentOver((target) => dialer.dial(target, false), false)
  const secureOnce = agentOver(dialer.dialTls, false)

  const textOf = (value: HeaderValue): string | undefined => {
    if (typeof value === "string") return value
    const text = secretOf(value.secret)
    return text === undefined ? undefined : (value.prefix ?? "") + text
  }

  /** Decides a request: the request to send, or the reason of its refusal. */
  const judge = (
    incoming: IncomingMessage,
    attempt: Attempt
  ):
    | { readonly options: RequestOptions; readonly request: RequestAttempt }
    | { readonly reason: RefusalReason }
    | { readonly status: number } => {
    const { host, port } = attempt
    const url = incoming.url ?? ""
    if (!url.startsWith("/") || isAmbiguous(incoming)) return { status: 400 }
    const named = (incoming.headers.host ?? "").toLowerCase()
    const isTls = incoming.socket instanceof TLSSocket
    if (named !== `${host}:${port}` && !(named === host && port === (isTls ? 443 : 80)))
      return { reason: "name_mismatch" }
    const [path = ""] = url.split("?", 1)
    const asked = { host, port, method: incoming.method ?? "", path, isTls }
    const decision = decideRequest(policy(), asked)
    if (decision._tag === "Deny") return { reason: decision.reason }
    const set: Record<string, string> = {}
    for (const [name, value] of Object.entries(decision.headers)) {
      const text = textOf(value)
      if (text === undefined) return { status: 503 }
      set[name] = text
    }
    const replaced = new Set(Object.keys(set).map(canonical))
    const own = Object.entries(endToEnd(incoming)).filter(
      ([name]) => !replaced.has(canonical(name)) && !overriding.has(canonical(name))
    )
    const headers = { ...Object.fromEntries(own), ...set, host: incoming.headers.host! } as Record<
      string,
      string | Array<string>
    >
    return {
      request: asked,
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

  /** An exception closes the connection that caused it and does not end the gateway. */
  const guarded = (broken: { readonly destroy: (error: Error) => unknown }, act: () => void) => {
    try {
      act()
    } catch (error) {
      broken.destroy(error as Error)
    }
  }

  const forward = (incoming: IncomingMessage, answer: ServerResponse, continues: boolean) => {
    const attempt = attempts.get(incoming.socket)!
    const judged = judge(incoming, attempt)
    if ("status" in judged) return void answer.writeHead(judged.status, { connection: "close" }).end()
    if ("reason" in judged) return refuse(answer, attempt, judged.reason)
    current.set(incoming.socket, judged.request)
    const outgoing = request(judged.options)
    outgoing.on("continue", () => continues && answer.writeContinue())
    outgoing.on("response", (response) =>
      guarded(outgoing, () => {
        answer.writeHead(response.statusCode ?? 502, response.statusMessage, responseHeaders(response))
        // Sends server-sent events to the sandbox without delay.
        answer.flushHeaders()
        response.pipe(answer)
        response.on("error", () => answer.destroy())
      })
    )
    outgoing.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ENOPUBLICADDRESS") refused({ ...attempt, reason: "private_address" })
      if (answer.headersSent) answer.destroy()
      else answer.writeHead(502, { connection: "close" }).end(`Castellan: ${attempt.host} can't be reached.\n`)
    })
    answer.on("close", () => {
      current.delete(incoming.socket)
      outgoing.destroy()
    })
    outgoing.flushHeaders()
    incoming.pipe(outgoing)
  }

  /** The pipelined requests of each connection. */
  const waiting = new WeakMap<Duplex, Array<() => void>>()

  /** Starts a pipelined request after the response to the previous one. */
  const inTurn = (incoming: IncomingMessage, answer: ServerResponse, begin: () => void) => {
    const { socket } = incoming
    const act = () => guarded(socket, begin)
    answer.once("close", () => {
      const next = socket.destroyed ? undefined : waiting.get(socket)?.shift()
      if (next === undefined) waiting.delete(socket)
      else next()
    })
    const queue = waiting.get(socket)
    if (queue === undefined) {
      waiting.set(socket, [])
      act()
    } else if (queue.length < waitingAtMost) queue.push(act)
    else socket.destroy()
  }

  /**
   * Forwards an upgrade to WebSocket on a connection of its own. Other protocols could carry more requests, so a request for
   * one is forwarded without the upgrade.
   */
  const upgrade = (incoming: IncomingMessage, client: Duplex, early: Buffer) => {
    const attempt = attempts.get(client)!
    const judged = judge(incoming, attempt)
    const end = (status: number) =>
      client.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\n\r\n`)
    if (!("options" in judged)) {
      if ("reason" in judged) refused({ ...attempt, reason: judged.reason })
      return void end("status" in judged ? judged.status : 403)
    }
    const { "content-length": length = "0", "transfer-encoding": coding } = incoming.headers
    // Node reads no body here, so a server could take the next bytes for it. An upgrade may also not follow an unanswered request.
    if (length !== "0" || coding !== undefined || waiting.has(client)) return void end(400)
    current.set(client, judged.request)
    const isWebSocket = incoming.headers.upgrade?.toLowerCase() === "websocket"
    const { "http2-settings": _, ...plainly } = judged.options.headers as Record<string, string>
    const headers = isWebSocket ? { ...plainly, connection: "Upgrade", upgrade: "websocket" } : plainly
    const outgoing = request({
      ...judged.options,
      headers,
      agent: judged.options.agent === secure ? secureOnce : plainOnce
    })
    client.on("error", () => client.destroy())
    client.on("close", () => {
      current.delete(client)
      outgoing.destroy()
    })
    outgoing.on("error", () => end(502))
    outgoing.on("upgrade", (response, server, first) => {
      server.on("error", () => client.destroy()).on("close", () => client.destroy())
      if (response.headers.upgrade?.toLowerCase() !== "websocket") return void server.destroy()
      client.write(headOf(response, "", /^$/))
      client.write(first)
      server.write(early)
      client.pipe(server).pipe(client)
      client.on("close", () => server.destroy())
    })
    outgoing.on("response", (response) => {
      client.write(headOf(response, "\r\nConnection: close", /^(connection|keep-alive|transfer-encoding)$/i))
      response.on("error", () => client.destroy())
      response.pipe(client)
    })
    outgoing.end()
  }

  const server = createServer({
    maxHeaderSize: headSize,
    headersTimeout: headWithin,
    connectionsCheckingInterval: Math.min(headWithin, 5000),
    requestTimeout: 0,
    keepAliveTimeout: 60_000
  })
  // Node starts the timeout of heads on this event, which no socket here emits because connections are handed over.
  server.emit("listening")
  server.on("clientError", (_, socket) => socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"))
  server.on("request", (incoming, answer) => inTurn(incoming, answer, () => forward(incoming, answer, false)))
  server.on("checkContinue", (incoming, answer) => inTurn(incoming, answer, () => forward(incoming, answer, true)))
  server.on("upgrade", (incoming, socket, early) => guarded(socket, () => upgrade(incoming, socket, early)))
  server.on("connect", (_incoming, socket) => socket.destroy())

  return {
    /** Serves the requests of a connection. `early` are bytes that were already read from it. */
    serve: (client: Socket, attempt: Attempt, early: Buffer) => {
      attempts.set(client, attempt)
      if (early.length > 0) client.unshift(early)
      server.emit("connection", client)
      // The parser reads later bytes from the kernel itself; it gets the early ones from the stream.
      client.resume()
    },
    /** Closes the requests and upgraded connections that the current policy does not allow. */
    enforce: () => {
      for (const [client, asked] of current) if (decideRequest(policy(), asked)._tag === "Deny") client.destroy()
    },
    close: () => {
      for (const agent of [plain, secure, plainOnce, secureOnce]) agent.destroy()
      server.closeAllConnections()
      // Also stops the checks of timeouts.
      server.close()
    }
  }
}
