/** Responses with the headers that all of GitHub's have. */
import { createHash } from "node:crypto"
import type { IncomingMessage, ServerResponse } from "node:http"
import { gzipSync } from "node:zlib"

export interface Response {
  readonly status: number
  readonly type: string
  readonly body: Buffer
  readonly headers: Record<string, string>
}

export const json = (status: number, body: unknown, headers: Record<string, string> = {}): Response => ({
  status,
  type: "application/json; charset=utf-8",
  body: Buffer.from(JSON.stringify(body)),
  headers
})

export const plain = (status: number, text: string, headers: Record<string, string> = {}): Response => ({
  status,
  type: "text/plain; charset=utf-8",
  body: Buffer.from(text),
  headers
})

const compressedFrom = 1024

/** Sends a response with GitHub's common headers; with `cut` it closes the connection after half of the body. */
export const send = (
  request: IncomingMessage,
  response: ServerResponse,
  { body, headers, status, type }: Response,
  limits: Record<string, string>,
  cut: boolean
) => {
  const all: Record<string, string> = {
    "x-github-request-id": createHash("sha256").update(`${Math.random()}`).digest("hex").slice(0, 16).toUpperCase(),
    "x-github-media-type": "github.v3; format=json",
    "x-github-api-version-selected": "2022-11-28",
    ...limits
  }
  let sent = body
  let code = status
  if (request.method === "GET" && status === 200) {
    // The tag depends on the credential, since the response may.
    const hash = createHash("sha256")
      .update(body)
      .update(request.headers.authorization ?? "")
    const tag = `"${hash.digest("hex")}"`
    all["etag"] = `W/${tag}`
    all["cache-control"] = "private, max-age=60, s-maxage=60"
    all["vary"] = "Accept, Authorization, Cookie, X-GitHub-OTP,Accept-Encoding, Accept, X-Requested-With"
    if (request.headers["if-none-match"]?.includes(tag) === true) {
      code = 304
      sent = Buffer.alloc(0)
    }
  }
  if (sent.length > 0) {
    all["content-type"] = type
    if (sent.length > compressedFrom && /\bgzip\b/.test(String(request.headers["accept-encoding"] ?? ""))) {
      sent = gzipSync(sent)
      all["content-encoding"] = "gzip"
    } else {
      all["content-length"] = String(sent.length)
    }
  }
  response.writeHead(code, { ...all, ...headers })
  if (!cut) return void response.end(sent)
  response.write(sent.subarray(0, Math.floor(sent.length / 2)), () => request.socket.destroy())
}
