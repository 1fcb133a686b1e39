/** Connections to what listens in a sandbox. */
import type { Port } from "@castellan/domain/sandbox/Port.ts"
import { PortClosed, type SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Effect } from "effect"
import type { Socket } from "node:net"
import * as Connections from "../../sandbox/PortConnections.ts"
import type { Running } from "../sandbox/Machines.ts"

/** `dial` gives a connection to what listens in a sandbox, `isStillRunning` tells whether that very run of it goes on. */
export const make = (
  dial: (machine: Running, port: Port) => Effect.Effect<Socket | undefined, SandboxUnavailable>,
  isStillRunning: (machine: Running) => Effect.Effect<boolean>
) => {
  const connections = Connections.make()

  const connect = Effect.fnUntraced(function* (machine: Running, port: Port) {
    const { name, ports = [] } = machine.spec
    const closed = new PortClosed({ name, port })
    if (!ports.includes(port)) return yield* closed
    const socket = yield* Effect.acquireRelease(dial(machine, port), (socket) => Effect.sync(() => socket?.destroy()))
    if (socket === undefined) return yield* closed
    return connections.over(socket, {
      name,
      host: `localhost:${port}`,
      closed,
      isStillRunning: isStillRunning(machine)
    })
  })

  return { connect, breakAll: connections.breakAll }
}
