/**
 * A server with the preview proxy in front of a stub API that responds "the API", and apps that listen on this machine.
 */
import { AppPreviews, PreviewUnavailable } from "@castellan/domain/app/AppPreviews.ts"
import { Port, type PortConnection } from "@castellan/domain/sandbox/Port.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { PortClosed, type SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import * as Preview from "../../src/preview/Preview.ts"
import { PreviewServer } from "../../src/server/PreviewServer.ts"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { Effect, Layer, type Scope, Stream } from "effect"
import { HttpServer, HttpServerRequest, HttpServerResponse } from "effect/http"
import { once } from "node:events"
import { createServer, type IncomingMessage, request, type RequestOptions, type ServerResponse } from "node:http"
import { type AddressInfo, connect, createServer as createTcpServer, type Server, type Socket } from "node:net"

/** The name of every app; their ports differ. */
export const name = SandboxName.make("app-one")

type Listener = (request: IncomingMessage, response: ServerResponse) => void

/** A listening server, with its connections. */
export interface Listening<S extends Server = Server> {
  readonly server: S
  readonly port: Port
  readonly sockets: Set<Socket>
  /** Connections accepted so far, including closed ones. */
  readonly accepted: () => number
}

const listening = <S extends Server>(make: () => S): Effect.Effect<Listening<S>, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const server = make()
      const sockets = new Set<Socket>()
      let accepted = 0
      server.prependListener("connection", (socket: Socket) => {
        accepted++
        sockets.add(socket)
        socket.on("error", () => {})
        socket.once("close", () => sockets.delete(socket))
      })
      server.listen(0, "127.0.0.1")
      await once(server, "listening")
      const { port } = server.address() as AddressInfo
      return { server, port: Port.make(port), sockets, accepted: () => accepted }
    }),
    ({ server, sockets }) =>
      Effect.sync(() => {
        server.close()
        for (const socket of sockets) socket.destroy()
      })
  )

/** An app with a dev server. */
export const app = (listener: Listener) => listening(() => createServer(listener))

/** An app that sends the given bytes. */
export const rawApp = (listener: (socket: Socket) => void) =>
  listening(() => createTcpServer({ allowHalfOpen: true }, listener))

/** A connection to a port of this machine. */
export const loopback = Effect.fnUntraced(function* (to: Port) {
  const closed = () => new PortClosed({ name, port: to })
  const socket = yield* Effect.acquireRelease(
    Effect.sync(() => connect({ host: "127.0.0.1", port: to, allowHalfOpen: true }).on("error", () => {})),
    (socket) => Effect.sync(() => void socket.destroy())
  )
  yield* Effect.tryPromise({ try: () => once(socket, "connect"), catch: closed })
  return {
    host: `127.0.0.1:${to}`,
    incoming: Stream.fromAsyncIterable<Uint8Array, PortClosed>(socket.iterator({ destroyOnReturn: false }), closed),
    send: (bytes) =>
      Effect.callback<void, PortClosed>((resume) => {
        socket.write(bytes, (failure) => resume(failure ? Effect.fail(closed()) : Effect.void))
      }),
    end: Effect.sync(() => void socket.end())
  } satisfies PortConnection as PortConnection
})

type Connected = Effect.Effect<PortConnection, PreviewUnavailable | SandboxUnavailable, Scope.Scope>

/** The dialer of the previews. A closed port stands for an app that is starting. */
export type ToApp = (name: SandboxName, port: Port) => Connected

const toLoopback: ToApp = (asked, port) =>
  asked === name
    ? Effect.catchTag(loopback(port), "PortClosed", () => new PreviewUnavailable({ state: "starting" }))
    : new PreviewUnavailable({ state: "stopped" })

const api = Effect.map(HttpServerRequest.HttpServerRequest, ({ url }) => HttpServerResponse.text(`the API: ${url}`))

/** The port of a server that runs until the scope closes. */
export const previewServer = Effect.fnUntraced(function* (
  options: Preview.PreviewOptions & { readonly toApp?: ToApp } = {}
) {
  const previews = yield* Effect.provideService(Preview.make(options), AppPreviews, {
    connect: options.toApp ?? toLoopback
  })
  const listens = { host: "127.0.0.1", port: 0, gracefulShutdownTimeout: "2 seconds" } as const
  const layer = HttpServer.serve(api).pipe(
    Layer.provideMerge(NodeHttpServer.layer(() => new PreviewServer(previews), listens))
  )
  const { address } = yield* Effect.provide(HttpServer.HttpServer, yield* Layer.build(layer))
  return "port" in address ? address.port : 0
})

/** The host name of an app's preview. */
export const hostOf = (port: number, of: string = name) => `${port}-${of}.localhost`

export interface Said {
  readonly status: number
  readonly headers: IncomingMessage["headers"]
  readonly text: string
}

/** The status and headers of a response. The client may set any host header. */
export const begin = (port: number, host: string, options: RequestOptions & { readonly body?: string | Buffer } = {}) =>
  new Promise<IncomingMessage>((resolve, reject) => {
    const headers = { host, ...(options.headers as Record<string, string>) }
    const asking = request({ agent: false, ...options, host: "127.0.0.1", port, headers })
    asking.on("response", resolve).on("error", reject).end(options.body)
  })

/** The rest of a response body; fails if it is cut off. */
export const rest = async (answer: IncomingMessage): Promise<Said> => {
  let text = ""
  for await (const piece of answer.setEncoding("utf8")) text += piece as string
  return { status: answer.statusCode!, headers: answer.headers, text }
}

/** A complete response. */
export const ask = (...asked: Parameters<typeof begin>) => Effect.promise(async () => rest(await begin(...asked)))

/** All bytes that the other side sends after these bytes, until it closes the connection. */
export const say = (port: number, words: string) =>
  Effect.promise(async () => {
    const socket = connect({ host: "127.0.0.1", port }).on("error", () => {})
    socket.write(words)
    let text = ""
    socket.setEncoding("latin1").on("data", (piece) => (text += piece))
    await once(socket, "close")
    return text
  })

/** Polls until the condition holds, for changes in another program or in the kernel. */
export const until = (isSo: () => boolean) =>
  Effect.promise(async () => {
    while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 5))
  })
