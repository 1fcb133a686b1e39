/** Requests that Node's HTTP parser refuses before the API sees them. */
import { PreviewServer } from "../../src/server/PreviewServer.ts"
import { assert, layer } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { once } from "node:events"
import { type AddressInfo, connect, type Socket } from "node:net"

/** A server without previews that responds to each request with 200. */
class Listening extends Context.Service<Listening, { readonly server: PreviewServer; readonly port: number }>()(
  "test/Listening"
) {
  static readonly layer = Layer.effect(
    Listening,
    Effect.gen(function* () {
      const server = new PreviewServer({
        matches: () => false,
        handleRequest: () => false,
        handleUpgrade: () => false,
        close: () => undefined
      })
      server.on("request", ({ url }, response) => {
        if (url !== "/slow") return response.end("ok")
        response.writeHead(200, { "content-length": "100" })
        return response.write("begin")
      })
      server.listen(0, "127.0.0.1")
      yield* Effect.promise(() => once(server, "listening"))
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          server.close()
          server.closeAllConnections()
        })
      )
      return { server, port: (server.address() as AddressInfo).port }
    })
  )
}

const textOf = async (socket: Socket): Promise<string> => {
  let text = ""
  socket
    .setEncoding("utf8")
    .on("data", (more: string) => (text += more))
    .on("error", () => undefined)
  await once(socket, "close")
  return text
}

/** The response to these bytes. */
const answerTo = Effect.fnUntraced(function* (request: string) {
  const { port } = yield* Listening
  const socket = connect(port, "127.0.0.1", () => socket.write(request))
  return parsed(yield* Effect.promise(() => textOf(socket)))
})

const parsed = (text: string) => {
  const [head = "", body = ""] = text.split("\r\n\r\n")
  const [line = "", ...headers] = head.split("\r\n")
  return {
    status: Number(line.split(" ")[1]),
    headers: new Map(headers.map((header) => header.toLowerCase().split(": ") as [string, string])),
    body
  }
}

const isOurs = ({ body, headers, status }: ReturnType<typeof parsed>, wanted: number, code: string) => {
  assert.strictEqual(status, wanted)
  const { error, ...rest } = JSON.parse(body)
  assert.deepStrictEqual(rest, { status: "error", success: false, code })
  assert.match(error, /^[A-Z].*[^.]$/)
  assert.strictEqual(headers.get("content-type"), "application/json")
  assert.strictEqual(headers.get("content-length"), String(Buffer.byteLength(body)))
  assert.match(headers.get("x-request-id") ?? "", /^req_[\w-]{20,}$/)
  assert.strictEqual(headers.get("access-control-allow-origin"), "*")
  assert.strictEqual(headers.get("connection"), "close")
}

layer(Listening.layer, { excludeTestServices: true })("Requests that Node's parser refuses", (it) => {
  const cases: Record<string, readonly [string, number, string]> = {
    "headers that are too long": [
      `GET / HTTP/1.1\r\nhost: a\r\nx: ${"y".repeat(20_000)}\r\n\r\n`,
      431,
      "headers_too_large"
    ],
    "a URL that is too long": [`GET /${"y".repeat(20_000)} HTTP/1.1\r\nhost: a\r\n\r\n`, 414, "uri_too_long"],
    "a malformed request line": ["nonsense\r\n\r\n", 400, "invalid_request"],
    "a malformed header": ["GET / HTTP/1.1\r\nhost: a\r\nno header\r\n\r\n", 400, "invalid_request"],
    "two content-length headers": [
      "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
      400,
      "invalid_request"
    ],
    "no host header": ["GET / HTTP/1.1\r\n\r\n", 400, "invalid_request"],
    "an unknown expectation": [
      "POST / HTTP/1.1\r\nhost: a\r\nexpect: wonders\r\nconnection: close\r\n\r\n",
      417,
      "expectation_failed"
    ],
    CONNECT: ["CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n", 405, "method_not_allowed"]
  }
  for (const [what, [request, status, code]] of Object.entries(cases)) {
    it.effect(`get the error body: ${what}`, () =>
      Effect.map(answerTo(request), (answer) => isOurs(answer, status, code))
    )
  }

  it.effect("get the error body if the request does not arrive in time", () =>
    Effect.gen(function* () {
      const { port, server } = yield* Listening
      const accepted = once(server, "connection")
      const client = connect(port, "127.0.0.1", () => client.write("GET / HTTP/1.1\r\nhost:"))
      const text = textOf(client)
      const [socket] = yield* Effect.promise(() => accepted)
      // Node emits this if a request takes too long.
      server.emit("clientError", Object.assign(new Error("timeout"), { code: "ERR_HTTP_REQUEST_TIMEOUT" }), socket)
      isOurs(parsed(yield* Effect.promise(() => text)), 408, "request_timeout")
    })
  )

  it.effect("get no response in the middle of another response", () =>
    Effect.gen(function* () {
      const { port } = yield* Listening
      const client = connect(port, "127.0.0.1", () =>
        client.write("POST /slow HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
      )
      const text = textOf(client)
      yield* Effect.promise(() => once(client, "data"))
      client.write("nonsense\r\n")
      assert.notInclude(yield* Effect.promise(() => text), "invalid_request")
    })
  )
})
