/** Turns sockets into the domain's port connections, and breaks those of a sandbox together. */
import type { PortConnection } from "@castellan/domain/sandbox/Port.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import type { PortClosed } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Effect, Stream } from "effect"
import type { Socket } from "node:net"

/** What a connection leads to. */
export interface ConnectionTarget {
  readonly name: SandboxName
  /** The value of the `Host` header that the program in the sandbox expects. */
  readonly host: string
  /** The error of a broken connection. */
  readonly closed: PortClosed
  /** Whether the incarnation of the sandbox that the connection was made to is still running. */
  readonly isStillRunning: Effect.Effect<boolean>
}

/** A registry of open connections by sandbox. */
export const make = () => {
  const open = new Map<SandboxName, Set<Socket>>()

  const register = (name: SandboxName, socket: Socket) => {
    const all = open.get(name) ?? new Set()
    open.set(name, all.add(socket))
    socket.on("close", () => {
      all.delete(socket)
      if (all.size === 0 && open.get(name) === all) open.delete(name)
    })
  }

  /** Makes a connection over a socket and registers it. */
  const over = (socket: Socket, { closed, host, name, isStillRunning }: ConnectionTarget): PortConnection => {
    register(name, socket)
    const chunks = { [Symbol.asyncIterator]: () => socket.iterator({ destroyOnReturn: false }) }
    // A sandbox that stops closes its connections just as a program does that has sent everything.
    const checkComplete = Effect.flatMap(isStillRunning, (runs) => (runs ? Effect.void : Effect.fail(closed)))
    return {
      host,
      incoming: Stream.concat(
        Stream.fromAsyncIterable<Uint8Array, PortClosed>(chunks, () => closed),
        Stream.fromEffectDrain(checkComplete)
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
