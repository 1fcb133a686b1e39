/** Connections to what listens in a sandbox, once a provider has a socket to it. */
import type { PortConnection } from "@castellan/domain/sandbox/Port.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import type { PortClosed } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Effect, Stream } from "effect"
import type { Socket } from "node:net"

/** Whose a connection is. */
export interface ConnectionTarget {
  readonly name: SandboxName
  /** What the listener is called by those who connect to it. */
  readonly host: string
  /** What the connection fails with when it breaks. */
  readonly closed: PortClosed
  /** Whether the very run of the sandbox goes on to which the connection was made. */
  readonly isStillRunning: Effect.Effect<boolean>
}

/** No connections yet. */
export const make = () => {
  const open = new Map<SandboxName, Set<Socket>>()

  const keep = (name: SandboxName, socket: Socket) => {
    const all = open.get(name) ?? new Set()
    open.set(name, all.add(socket))
    socket.on("close", () => {
      all.delete(socket)
      if (all.size === 0 && open.get(name) === all) open.delete(name)
    })
  }

  /** A connection by way of a socket, which is broken with all others of its sandbox. */
  const over = (socket: Socket, { closed, host, name, isStillRunning }: ConnectionTarget): PortConnection => {
    keep(name, socket)
    const pieces = { [Symbol.asyncIterator]: () => socket.iterator({ destroyOnReturn: false }) }
    // A sandbox that ends closes its connections as a program does that has said all.
    const isWhole = Effect.flatMap(isStillRunning, (runs) => (runs ? Effect.void : Effect.fail(closed)))
    return {
      host,
      incoming: Stream.concat(
        Stream.fromAsyncIterable<Uint8Array, PortClosed>(pieces, () => closed),
        Stream.fromEffectDrain(isWhole)
      ),
      send: (bytes) =>
        Effect.callback((resume) => {
          if (!socket.writable) return resume(Effect.fail(closed))
          socket.write(bytes, (broken) => resume(broken ? Effect.fail(closed) : Effect.void))
        }),
      end: Effect.sync(() => void socket.end())
    }
  }

  /** Breaks all connections to a sandbox. */
  const breakAll = (name: SandboxName) =>
    Effect.sync(() => {
      for (const socket of open.get(name) ?? []) socket.destroy()
    })

  return { over, breakAll }
}
