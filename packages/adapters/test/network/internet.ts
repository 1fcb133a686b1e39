/** A small internet on the loopback of this host: servers under public names, and a client inside a sandbox's network. */
import * as Certificates from "../../src/network/Certificates.ts"
import * as Dialer from "../../src/network/Dialer.ts"
import type { Refusal } from "../../src/network/Egress.ts"
import * as Egress from "../../src/network/Egress.ts"
import type { NetworkPolicy } from "@castellan/domain/network/NetworkPolicy.ts"
import { Effect } from "effect"
import { once } from "node:events"
import { createServer as createHttpServer, type RequestListener } from "node:http"
import { connect, createServer, type Server, type Socket } from "node:net"
import * as tls from "node:tls"

export const portOf = (server: Server) => (server.address() as { readonly port: number }).port

const closing = (server: Server, sockets: Set<Socket>) =>
  Effect.promise(async () => {
    for (const socket of sockets) socket.destroy()
    await new Promise((resolve) => server.close(resolve))
  })

/** A server on a port of its own until the scope is closed. */
const listening = <A extends Server>(server: A) =>
  Effect.suspend(() => {
    const sockets = new Set<Socket>()
    server.on("connection", (socket) => sockets.add(socket.on("error", () => undefined)))
    const listen = Effect.promise(async () => {
      await once(server.listen(0, "127.0.0.1"), "listening")
      return server
    })
    return Effect.acquireRelease(listen, () => closing(server, sockets))
  })

/** A TCP server that does this with each connection. */
export const tcpServer = (serve: (socket: Socket) => void) => listening(createServer({ allowHalfOpen: true }, serve))

/** A server of plain HTTP. */
export const httpServer = (answer: RequestListener) => listening(createHttpServer(answer))

/** A server of HTTP over TLS, with certificates for whatever name it is asked for. */
export const httpsServer = (answer: RequestListener, certificates: Certificates.Certificates) => {
  const http = createHttpServer(answer)
  const secure = tls.createServer(
    {
      SNICallback: (name, done) => {
        certificates.contextFor(name).then(
          (context) => done(null, context),
          (error: Error) => done(error)
        )
      }
    },
    (socket) => http.emit("connection", socket)
  )
  secure.on("tlsClientError", () => undefined)
  return Effect.as(listening(secure), { server: secure as Server, http })
}

export interface InternetOptions {
  readonly policy: NetworkPolicy
  readonly hosts?: Readonly<Record<string, string>>
  readonly secrets?: Record<string, string>
  readonly lookup?: Dialer.Lookup
  /** Milliseconds that the head of a request may take. */
  readonly headWithin?: number
}

export const authority = Effect.cached(Effect.promise(Certificates.newAuthority)).pipe(Effect.runSync)

/** The egress of one sandbox, and how to connect to hosts through it. */
export const egressTo = Effect.fnUntraced(function* ({
  headWithin,
  hosts = {},
  lookup,
  policy,
  secrets = {}
}: InternetOptions) {
  const own = yield* authority
  const refusals: Array<Refusal> = []
  let current = policy
  const dialer = Dialer.make({
    hosts: new Map(Object.entries(hosts).map(([name, url]) => [name, [new URL(url)]])),
    trusted: [own.certificate],
    ...(lookup === undefined ? {} : { lookup })
  })
  const egress = yield* Effect.acquireRelease(
    Effect.sync(() =>
      Egress.make({
        policy: () => current,
        dialer,
        certificates: Certificates.make(own),
        secretOf: (name) => secrets[name],
        refused: (refusal) => refusals.push(refusal),
        carried: () => undefined,
        ...(headWithin === undefined ? {} : { headWithin })
      })
    ),
    ({ close }) => Effect.sync(close)
  )
  const attempts: Array<{ readonly host: string; readonly port: number }> = []
  const inside = yield* tcpServer((socket) => egress.serve(socket, attempts.shift()!))

  /** A connection as a program inside opens it. */
  const open = (host: string, port: number) =>
    Effect.acquireRelease(
      Effect.promise(async () => {
        attempts.push({ host, port })
        const socket = connect({ port: portOf(inside), host: "127.0.0.1", allowHalfOpen: true })
        socket.on("error", () => undefined)
        // It may be refused before this process sees that it was accepted.
        await Promise.race([once(socket, "connect"), once(socket, "close")]).catch(() => undefined)
        return socket
      }),
      (socket) => Effect.sync(() => socket.destroy())
    )

  /** The same, with TLS on it; fails with the error's code. */
  const openTls = (host: string, port: number, servername: string | undefined = host) =>
    Effect.flatMap(open(host, port), (socket) =>
      Effect.callback<tls.TLSSocket, string>((resume) => {
        const secure = tls.connect({ socket, ca: own.certificate, ...(servername === undefined ? {} : { servername }) })
        secure.once("error", (error: NodeJS.ErrnoException) => resume(Effect.fail(error.code ?? error.message)))
        secure.once("secureConnect", () => resume(Effect.succeed(secure)))
      })
    )

  return {
    open,
    openTls,
    refusals,
    /** Why things were refused, in order. */
    reasons: () => refusals.map(({ reason }) => reason),
    change: (policy: NetworkPolicy) => {
      current = policy
      egress.enforce()
    }
  }
})

/** All that comes until the other side ends or breaks. */
export const readAll = (socket: Socket) =>
  Effect.promise(async () => {
    let text = ""
    try {
      for await (const piece of socket.iterator({ destroyOnReturn: false })) text += String(piece)
    } catch {
      text += "(broken)"
    }
    return text
  })

/** Sends a text and reads until the other side closes. */
export const exchange = (socket: Socket, text: string) =>
  Effect.suspend(() => {
    socket.write(text)
    return readAll(socket)
  })

/** The next piece that comes. */
export const nextPiece = (socket: Socket) =>
  Effect.promise(async () => String(((await once(socket, "data")) as [Buffer])[0]))
