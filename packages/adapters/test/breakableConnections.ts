/** A TCP proxy whose connections a test can break. */
import { Effect } from "effect"
import { once } from "node:events"
import { type AddressInfo, connect, createServer, type Socket } from "node:net"

/** The proxy of a port. */
export interface Way {
  readonly port: number
  /** Resets all connections. The proxy accepts new ones. */
  readonly cut: () => void
  /** Closes the proxy once a client sends text that matches. */
  readonly endAt: (sent: RegExp) => void
}

export const wayTo = (port: number) =>
  Effect.acquireRelease(
    Effect.promise(async (): Promise<Way & { readonly end: () => void }> => {
      const sockets = new Set<Socket>()
      let last: RegExp | undefined
      const cut = () => {
        for (const socket of sockets) socket.resetAndDestroy()
        sockets.clear()
      }
      const end = () => {
        server.close()
        cut()
      }
      const server = createServer((client) => {
        const there = connect(port, "127.0.0.1")
        for (const socket of [client, there]) {
          sockets.add(socket)
          socket.on("error", () => undefined)
        }
        client.on("data", (bytes) => (last?.test(bytes.toString("latin1")) === true ? end() : there.write(bytes)))
        client.on("close", () => there.destroy())
        there.on("close", () => client.destroy())
        there.pipe(client)
      }).listen(0, "127.0.0.1")
      await once(server, "listening")
      const endAt = (sent: RegExp) => void (last = sent)
      return { port: (server.address() as AddressInfo).port, cut, end, endAt }
    }),
    ({ end }) => Effect.sync(end)
  )
