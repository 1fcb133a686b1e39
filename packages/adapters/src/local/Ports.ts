/** Connections to what listens in a sandbox. */
import type { Port, PortConnection } from "@castellan/domain/sandbox/Port.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { PortClosed, type SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Effect, Stream } from "effect"
import type { Socket } from "node:net"
import type { Running } from "./Machines.ts"

const toConnection = (socket: Socket, port: Port, closed: PortClosed, runsStill: Effect.Effect<boolean>) => {
  const pieces = { [Symbol.asyncIterator]: () => socket.iterator({ destroyOnReturn: false }) }
  // A sandbox that ends closes its connections as a program does that has said all.
  const isWhole = Effect.flatMap(runsStill, (runs) => (runs ? Effect.void : Effect.fail(closed)))
  const connection: PortConnection = {
    host: `localhost:${port}`,
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
  return connection
}

/** `dial` gives a connection to what listens in a sandbox, `runsStill` tells whether that very run of it goes on. */
export const make = (
  dial: (machine: Running, port: Port) => Effect.Effect<Socket | undefined, SandboxUnavailable>,
  runsStill: (machine: Running) => Effect.Effect<boolean>
) => {
  const open = new Map<SandboxName, Set<Socket>>()

  const keep = (name: SandboxName, socket: Socket) => {
    const all = open.get(name) ?? new Set()
    open.set(name, all.add(socket))
    socket.on("close", () => {
      all.delete(socket)
      if (all.size === 0 && open.get(name) === all) open.delete(name)
    })
  }

  const connect = Effect.fnUntraced(function* (machine: Running, port: Port) {
    const { name, ports = [] } = machine.spec
    const closed = new PortClosed({ name, port })
    if (!ports.includes(port)) return yield* closed
    const socket = yield* Effect.acquireRelease(dial(machine, port), (socket) => Effect.sync(() => socket?.destroy()))
    if (socket === undefined) return yield* closed
    keep(name, socket)
    return toConnection(socket, port, closed, runsStill(machine))
  })

  /** Breaks all connections to a sandbox. */
  const breakAll = (name: SandboxName) =>
    Effect.sync(() => {
      for (const socket of open.get(name) ?? []) socket.destroy()
    })

  return { connect, breakAll }
}
