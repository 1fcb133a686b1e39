/** Runs a small process in the network of a sandbox that passes connections between the server and the sandbox. */
import type { Port } from "@castellan/domain/sandbox/Port.ts"
import { SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Deferred, Duration, Effect, RcMap } from "effect"
import { closeSync, openSync } from "node:fs"
import type { Socket } from "node:net"
import type { Isolation, RunningSandbox } from "../isolation/Isolation.ts"
import { attemptSync } from "../process/attempt.ts"
import type { ProcessIdentity } from "../process/processes.ts"
import { collectStderr, spawnProgram } from "../process/Spawn.ts"
import * as Egress from "./Egress.ts"
import { gateway as script } from "./gateway-script.ts"
import { adoptSocket } from "./Sockets.ts"

/** The port inside at which programs reach the egress proxy; below the range of ephemeral ports. */
export const egressPort = 31_280

/** How long an unused gateway is kept. */
const idleTimeToLive = Duration.minutes(1)

/** How long a gateway may take to start. */
const startTimeout = "10 seconds"

/** Identifies a gateway: an incarnation of a sandbox, and whether it can reach the registry. */
interface GatewayKey {
  readonly init: ProcessIdentity
  readonly user: number | false
  readonly registry: boolean
}

/** A message of the gateway: it is ready, a program inside has connected, or the result of the request `id` to dial. */
interface GatewayMessage {
  readonly ready?: true
  readonly dialled?: true
  readonly id?: number
}

const unavailable = (cause: unknown) => new SandboxUnavailable({ operation: "connect", retryable: true, cause })

/** Gateways start Node by this descriptor, so that their user needs no access to the directories above it. */
const nodeDescriptor = 4

const spawnGateway = (command: ReadonlyArray<string>, user: number | false) => {
  const node = openSync(process.execPath, "r")
  try {
    return spawnProgram({ command, cwd: "/", user }, ["ignore", "ignore", "pipe", "ipc", node])
  } finally {
    closeSync(node)
  }
}

/** Starts a gateway. `onDialled` gets each connection from inside; undefined if the connection broke on its way. */
const startGateway = (
  command: ReadonlyArray<string>,
  user: number | false,
  onDialled: ((socket: Socket | undefined) => void) | undefined
) => {
  const child = spawnGateway(command, user)
  const errors = collectStderr(child)
  const pending = new Map<number, (socket: Socket | undefined, failure?: SandboxUnavailable) => void>()
  const ready = Deferred.makeUnsafe<void, SandboxUnavailable>()
  const ended = Deferred.makeUnsafe<void>()
  let requests = 0
  let failure: SandboxUnavailable | undefined
  child.on("message", (message: GatewayMessage, socket?: Socket) => {
    if (message.ready) return Deferred.doneUnsafe(ready, Effect.void)
    const receive = message.dialled ? onDialled : pending.get(message.id!)
    // The request may have been interrupted.
    return receive === undefined ? socket?.destroy() : receive(socket)
  })
  const finish = (cause: unknown) => {
    failure ??= unavailable(cause)
    Deferred.doneUnsafe(ready, Effect.fail(failure))
    for (const receive of pending.values()) receive(undefined, failure)
    Deferred.doneUnsafe(ended, Effect.void)
  }
  child.on("error", finish)
  child.on("exit", (code) => finish(new Error(`the gateway of a sandbox ended (${code}): ${errors().trim()}`)))

  /** A connection to that port inside, which the caller closes; undefined if no program accepts it. */
  const dial = (port: Port): Effect.Effect<Socket | undefined, SandboxUnavailable> =>
    Effect.callback((resume) => {
      if (failure !== undefined) return resume(Effect.fail(failure))
      const id = requests++
      pending.set(id, (socket, failed) => {
        pending.delete(id)
        resume(failed === undefined ? Effect.succeed(socket && adoptSocket(socket)) : Effect.fail(failed))
      })
      child.send({ id, port }, (cause) => {
        if (cause !== null) pending.get(id)?.(undefined, unavailable(cause))
      })
      return Effect.sync(() => pending.delete(id))
    })

  const end = Effect.suspend(() => {
    child.kill("SIGKILL")
    return Deferred.await(ended)
  })

  return { dial, end, ready: Deferred.await(ready), ended: Deferred.await(ended) }
}

type Gateway = ReturnType<typeof startGateway>

/**
 * The gateways of sandboxes with their own network, one for each incarnation of a sandbox, started on demand. A gateway that
 * gives access to the registry stays as long as the sandbox runs.
 */
export const make = Effect.fnUntraced(function* (
  isolation: Isolation,
  registry: Effect.Effect<URL, SandboxUnavailable>
) {
  const scope = yield* Effect.scope

  const makeEgress = Effect.acquireRelease(Effect.map(registry, Egress.make), ({ close }) => Effect.sync(close))

  const start = Effect.fnUntraced(function* (key: GatewayKey) {
    const { init, user } = key
    const egress = key.registry ? yield* makeEgress : undefined
    const args = [String(init.pid), init.startTime, String(egress ? egressPort : 0)]
    const node = [`/proc/self/fd/${nodeDescriptor}`, "-e", script, ...args]
    const command = [...isolation.enterNetworkCommand(init), ...node]
    const gateway = yield* Effect.acquireRelease(
      attemptSync("connect", () => startGateway(command, user, egress?.serve)),
      ({ end }) => end
    )
    // A gateway that ends is removed from the map; the fiber ends with the map's entry.
    const invalidate = Effect.forkIn(RcMap.invalidate(gateways, key), scope)
    yield* Effect.forkScoped(Effect.andThen(gateway.ended, invalidate))
    yield* Effect.timeoutOrElse(gateway.ready, {
      duration: startTimeout,
      orElse: () => Effect.fail(unavailable("the gateway of a sandbox did not start in time"))
    })
    return gateway
  })

  const gateways: RcMap.RcMap<GatewayKey, Gateway, SandboxUnavailable> = yield* RcMap.make({
    lookup: start,
    idleTimeToLive: (key: GatewayKey) => (key.registry ? Duration.infinity : idleTimeToLive)
  })

  /** A failure is not cached. */
  const get = ({ init, record }: RunningSandbox) => {
    const key: GatewayKey = { init, user: isolation.userOf(record), registry: record.registry === true }
    return Effect.tapError(RcMap.get(gateways, key), () => RcMap.invalidate(gateways, key))
  }

  return {
    /** Succeeds once the gateway of the sandbox runs. */
    ensureRunning: (sandbox: RunningSandbox) => Effect.scoped(Effect.asVoid(get(sandbox))),
    dial: (sandbox: RunningSandbox, port: Port) =>
      Effect.scoped(Effect.flatMap(get(sandbox), ({ dial }) => dial(port))),
    /** Ends the gateway of an incarnation of a sandbox, and its connections to the registry. */
    end: (init: ProcessIdentity) =>
      Effect.flatMap(RcMap.keys(gateways), (keys) =>
        Effect.forEach(
          [...keys].filter((key) => key.init.pid === init.pid && key.init.startTime === init.startTime),
          (key) => RcMap.invalidate(gateways, key),
          { discard: true }
        )
      )
  }
})
