/** Gives each port of a sandbox an address on the loopback, and relays connections to it. */
import type { Port } from "@castellan/domain/sandbox/Port.ts"
import { type PortClosed, SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { Effect, FiberSet, type Scope, Stream } from "effect"
import { type AddressInfo, createServer, type Server, type Socket } from "node:net"
import type { Route } from "./models.ts"

/** The addresses of the ports of sandboxes. */
export interface Bridges {
  /** Opens an address for a port, until it is closed. */
  readonly open: (name: SandboxName, port: number) => Effect.Effect<Route>
  readonly close: (route: Route) => Effect.Effect<void>
  /** The address of a subdomain of `vercel.run`. */
  readonly urlOf: (subdomain: string) => string | undefined
}

const page = (code: string, status = "502 Bad Gateway") =>
  `HTTP/1.1 ${status}\r\ncontent-type: text/plain\r\nx-vercel-error: ${code}\r\nconnection: close\r\n\r\n${code}\n`

const subdomain = () => `sb-${Math.random().toString(36).slice(2, 14).padEnd(12, "0")}`

const listening = (server: Server) =>
  Effect.callback<number>((resume) => {
    server.listen(0, "127.0.0.1", () => resume(Effect.succeed((server.address() as AddressInfo).port)))
  })

/** The bytes that a socket receives. */
const pieces = (socket: Socket) =>
  Stream.fromAsyncIterable(socket as AsyncIterable<Buffer>, (cause) => ({ _tag: "SocketBroken" as const, cause }))

const write = (socket: Socket, bytes: Uint8Array) =>
  Effect.callback<void>((resume) => {
    if (socket.destroyed) return resume(Effect.void)
    const done = () => {
      socket.off("close", done)
      resume(Effect.void)
    }
    socket.once("close", done)
    socket.write(bytes, done)
  })

/** Makes bridges that close with the scope. */
export const make = (provider: typeof SandboxProvider.Service): Effect.Effect<Bridges, never, Scope.Scope> =>
  Effect.gen(function* () {
    const fork = yield* FiberSet.makeRuntime<never, void, never>()
    const servers = new Map<string, { readonly server: Server; readonly sockets: Set<Socket>; readonly url: string }>()

    const through = (name: SandboxName, port: Port, socket: Socket) =>
      Effect.scoped(
        Effect.gen(function* () {
          const connection = yield* provider.connect(name, port)
          const up = Effect.andThen(
            Stream.runForEach(pieces(socket), (bytes) => connection.send(bytes)),
            connection.end
          )
          const down = Effect.andThen(
            Stream.runForEach(connection.incoming, (bytes) => write(socket, bytes)),
            Effect.sync(() => socket.end())
          )
          yield* Effect.all([up, down], { concurrency: 2, discard: true }).pipe(
            Effect.catch((error: PortClosed | { readonly _tag: string }) =>
              Effect.sync(() => socket.destroy(new Error(error._tag)))
            )
          )
        })
      ).pipe(
        Effect.catch((error) =>
          Effect.sync(() => {
            const stops = error._tag === "SandboxNotRunning" || error._tag === "SandboxGone"
            socket.end(stops ? page("SANDBOX_STOPPED", "410 Gone") : page("SANDBOX_NOT_LISTENING"))
            socket.resume()
          })
        )
      )

    const open = Effect.fnUntraced(function* (name: SandboxName, port: number) {
      const sockets = new Set<Socket>()
      const server = createServer({ allowHalfOpen: true }, (socket) => {
        sockets.add(socket)
        socket.once("close", () => sockets.delete(socket))
        socket.on("error", () => socket.destroy())
        fork(through(name, port as Port, socket))
      })
      const url = `http://127.0.0.1:${yield* listening(server)}`
      const route: Route = { url, subdomain: subdomain(), port }
      servers.set(route.subdomain, { server, sockets, url })
      return route
    })

    const shut = (subdomain: string) => {
      const known = servers.get(subdomain)
      servers.delete(subdomain)
      known?.server.close()
      for (const socket of known?.sockets ?? []) socket.destroy()
    }
    yield* Effect.addFinalizer(() => Effect.sync(() => [...servers.keys()].forEach(shut)))

    return {
      open,
      close: ({ subdomain }: Route) => Effect.sync(() => shut(subdomain)),
      urlOf: (subdomain: string) => servers.get(subdomain)?.url
    }
  })
