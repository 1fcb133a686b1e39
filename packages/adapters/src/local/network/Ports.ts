/** Connects to ports inside a sandbox. */
import type { Port } from "@castellan/domain/sandbox/Port.ts"
import { PortClosed, type SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Effect } from "effect"
import type { Socket } from "node:net"
import * as PortConnections from "../../sandbox/PortConnections.ts"
import type { RunningSandbox } from "../isolation/Isolation.ts"

/** `dial` opens a connection to a port inside. `isRunning` tells whether that incarnation of the sandbox still runs. */
export const make = (
  dial: (sandbox: RunningSandbox, port: Port) => Effect.Effect<Socket | undefined, SandboxUnavailable>,
  isRunning: (sandbox: RunningSandbox) => Effect.Effect<boolean>
) => {
  const connections = PortConnections.make()

  const connect = Effect.fnUntraced(function* (sandbox: RunningSandbox, port: Port) {
    const { name, ports = [] } = sandbox.record
    const closed = new PortClosed({ name, port })
    if (!ports.includes(port)) return yield* closed
    const socket = yield* Effect.acquireRelease(dial(sandbox, port), (socket) => Effect.sync(() => socket?.destroy()))
    if (socket === undefined) return yield* closed
    return connections.over(socket, { name, host: `localhost:${port}`, closed, isStillRunning: isRunning(sandbox) })
  })

  return { connect, breakAll: connections.breakAll }
}
