/** Responds to requests that Node's HTTP parser rejects before they reach the API, with the API's error body. */
import { SecureRandom } from "effect/crypto"
import { type IncomingMessage, maxHeaderSize, type ServerResponse, STATUS_CODES } from "node:http"
import type { Duplex } from "node:stream"
import { type ErrorBody, errorBody } from "../api/ErrorBody.ts"
import { cors } from "./Cors.ts"

interface Refusal {
  readonly status: number
  readonly body: ErrorBody
}

const kibibytes = maxHeaderSize / 1024

const refusal = (status: number, code: string, error: string): Refusal => ({ status, body: errorBody(code, error) })

const refusals = {
  headers: refusal(431, "headers_too_large", `The headers of a request must be at most ${kibibytes} KiB`),
  url: refusal(414, "uri_too_long", `The URL and the headers of a request must be at most ${kibibytes} KiB`),
  chunks: refusal(413, "body_too_large", "The chunk extensions of the body are too long"),
  timeout: refusal(408, "request_timeout", "The request did not arrive in time"),
  malformed: refusal(400, "invalid_request", "The request is not valid HTTP"),
  host: refusal(400, "invalid_request", "The request must have a Host header"),
  expectation: refusal(417, "expectation_failed", "The Expect header is not supported"),
  tunnel: refusal(405, "method_not_allowed", "Method not allowed")
} as const

export type Malformed = keyof typeof refusals

/** The error of Node's parser. */
interface ParserError extends Error {
  readonly code?: string
  /** The bytes that the parser rejected. */
  readonly rawPacket?: Buffer
}

/** Whether the request line alone exceeds the limit. */
const hasLongFirstLine = (packet: Buffer | undefined): boolean => {
  if (packet === undefined || !/^[A-Z]+ /.test(packet.toString("latin1", 0, 32))) return false
  const end = packet.indexOf("\n")
  return end < 0 || end >= maxHeaderSize
}

/** Classifies an error of Node's parser. */
export const kindOf = ({ code, rawPacket }: ParserError): Malformed => {
  switch (code) {
    case "HPE_HEADER_OVERFLOW":
      return hasLongFirstLine(rawPacket) ? "url" : "headers"
    case "HPE_CHUNK_EXTENSIONS_OVERFLOW":
      return "chunks"
    case "ERR_HTTP_REQUEST_TIMEOUT":
      return "timeout"
    default:
      return "malformed"
  }
}

const responseOf = (kind: Malformed) => {
  const { body, status } = refusals[kind]
  const text = JSON.stringify(body)
  const headers = {
    "content-type": "application/json",
    "content-length": String(Buffer.byteLength(text)),
    connection: "close",
    ...cors,
    "x-request-id": `req_${SecureRandom.uuidV4Unsafe()}`
  }
  return { status, headers, text }
}

/** Refuses a request that has no response object, and closes its connection. */
export const refuseOn = (socket: Duplex, kind: Malformed): void => {
  // The response that is being sent on this connection. Node's default handler uses this internal property, too.
  const { _httpMessage: current } = socket as { readonly _httpMessage?: ServerResponse | null }
  if (!socket.writable || current?.headersSent === true) {
    socket.destroy()
    return
  }
  const { headers, status, text } = responseOf(kind)
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`)
  const head = [`HTTP/1.1 ${status} ${STATUS_CODES[status]}`, ...lines].join("\r\n")
  // A client that keeps sending must not keep the connection open.
  socket.end(`${head}\r\n\r\n${text}`, () => socket.destroy())
}

/** Refuses a parsed request, and closes its connection. */
export const refuse = (request: IncomingMessage, response: ServerResponse, kind: Malformed): void => {
  const { headers, status, text } = responseOf(kind)
  response.writeHead(status, headers)
  response.end(request.method === "HEAD" ? undefined : text)
}
