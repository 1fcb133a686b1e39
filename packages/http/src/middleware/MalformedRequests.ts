/** Answers requests that Node's parser refuses, which never reach the API, in the form that all errors have. */
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
  expectation: refusal(417, "expectation_failed", "The expectation of the request is not known"),
  tunnel: refusal(405, "method_not_allowed", "Method not allowed")
} as const

export type Malformed = keyof typeof refusals

/** What Node knows of a request that it refused. */
interface ParserError extends Error {
  readonly code?: string
  /** The bytes that the parser had when it refused. */
  readonly rawPacket?: Buffer
}

/** Whether it is the request's first line alone that is too long. */
const hasLongFirstLine = (packet: Buffer | undefined): boolean => {
  if (packet === undefined || !/^[A-Z]+ /.test(packet.toString("latin1", 0, 32))) return false
  const end = packet.indexOf("\n")
  return end < 0 || end >= maxHeaderSize
}

/** What is wrong with a request that Node's parser refused. */
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

const answerOf = (kind: Malformed) => {
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
  // Node's own name for the response that is being sent on the connection, which its default handler looks at, too.
  const { _httpMessage: current } = socket as { readonly _httpMessage?: ServerResponse | null }
  if (!socket.writable || current?.headersSent === true) {
    socket.destroy()
    return
  }
  const { headers, status, text } = answerOf(kind)
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`)
  const head = [`HTTP/1.1 ${status} ${STATUS_CODES[status]}`, ...lines].join("\r\n")
  // A sender that goes on sending would never be done.
  socket.end(`${head}\r\n\r\n${text}`, () => socket.destroy())
}

/** Refuses a request that was read, and closes its connection. */
export const refuse = (request: IncomingMessage, response: ServerResponse, kind: Malformed): void => {
  const { headers, status, text } = answerOf(kind)
  response.writeHead(status, headers)
  response.end(request.method === "HEAD" ? undefined : text)
}
