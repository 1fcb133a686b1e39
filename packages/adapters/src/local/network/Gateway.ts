/** A small process in the network of a sandbox, by which the server reaches what listens there, and is itself reached. */
import type { Port } from "@castellan/domain/sandbox/Port.ts"
import { SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Deferred, Duration, Effect, RcMap } from "effect"
import { closeSync, openSync } from "node:fs"
import type { Socket } from "node:net"
import * as Egress from "./Egress.ts"
import { gateway as script } from "./gateway-script.ts"
import { attemptNow, type ProcessMark } from "../process/Host.ts"
import type { Isolation } from "../isolation/Isolation.ts"
import type { Running } from "../sandbox/Machines.ts"
import { held } from "./Sockets.ts"
import { errorsOf, start } from "../process/Spawn.ts"

/** Where programs inside find the way out; below the ports that the system gives to who asks for none. */
export const egressPort = 31_280

/** How long a gateway is kept that nothing needs. */
const idleKept = Duration.minutes(1)

/** How long a gateway may take to come up. */
const upWithin = "10 seconds"

/** What a gateway is for: one run of a sandbox, and whether that has a way out. */
interface Of {
  readonly init: ProcessMark
  readonly user: number | false
  readonly registry: boolean
}

/** What a gateway tells: that it is up, that it was dialled from inside, or what became of an order to dial. */
interface Report {
  readonly ready?: true
  readonly dialled?: true
  readonly id?: number
}

const failed = (cause: unknown) => new SandboxUnavailable({ operation: "connect", retryable: true, cause })

/** Begins a gateway; `dialled` takes the sockets of who dials it from inside, or what is left of one that broke before. */
const begin = (
  command: ReadonlyArray<string>,
  user: number | false,
  dialled: ((socket: Socket | undefined) => void) | undefined
) => {
  const node = openSync(process.execPath, "r")
  const child = (() => {
    try {
      return start({ command, cwd: "/", user }, ["ignore", "ignore", "pipe", "ipc", node])
    } finally {
      closeSync(node)
    }
  })()
  const errors = errorsOf(child)
  const waiting = new Map<number, (socket: Socket | undefined, failure?: SandboxUnavailable) => void>()
  const ready = Deferred.makeUnsafe<void, SandboxUnavailable>()
  const ended = Deferred.makeUnsafe<void>()
  let orders = 0
  let over: SandboxUnavailable | undefined
  child.on("message", (report: Report, socket?: Socket) => {
    if (report.ready) return Deferred.doneUnsafe(ready, Effect.void)
    const take = report.dialled ? dialled : waiting.get(report.id!)
    // Whoever wanted it may have given up.
    return take === undefined ? socket?.destroy() : take(socket)
  })
  const finish = (cause: unknown) => {
    over ??= failed(cause)
    Deferred.doneUnsafe(ready, Effect.fail(over))
    for (const tell of waiting.values()) tell(undefined, over)
    Deferred.doneUnsafe(ended, Effect.void)
  }
  child.on("error", finish)
  child.on("exit", (code) => finish(new Error(`the gateway of a sandbox ended (${code}): ${errors().trim()}`)))

  /** A connection to that port inside, to be closed by whoever gets it; undefined where nothing answers. */
  const dial = (port: Port): Effect.Effect<Socket | undefined, SandboxUnavailable> =>
    Effect.callback((resume) => {
      if (over !== undefined) return resume(Effect.fail(over))
      const id = orders++
      waiting.set(id, (socket, failure) => {
        waiting.delete(id)
        resume(failure === undefined ? Effect.succeed(socket && held(socket)) : Effect.fail(failure))
      })
      child.send({ id, port }, (cause) => {
        if (cause !== null) waiting.get(id)?.(undefined, failed(cause))
      })
      return Effect.sync(() => waiting.delete(id))
    })

  const end = Effect.suspend(() => {
    child.kill("SIGKILL")
    return Deferred.await(ended)
  })

  return { dial, end, ready: Deferred.await(ready), ended: Deferred.await(ended) }
}

type Gateway = ReturnType<typeof begin>

/**
 * The gateways of sandboxes that have a network of their own, begun when they are first needed, one for each run of a
 * sandbox. One with a way out, which is to what `registry` names, stays for as long as the sandbox runs.
 */
export const make = Effect.fnUntraced(function* (
  isolation: Isolation,
  registry: Effect.Effect<URL, SandboxUnavailable>
) {
  const scope = yield* Effect.scope

  const egressOf = Effect.acquireRelease(Effect.map(registry, Egress.make), ({ close }) => Effect.sync(close))

  const begun = Effect.fnUntraced(function* (of: Of) {
    const { init, user } = of
    const egress = of.registry ? yield* egressOf : undefined
    // Node is started by its descriptor, so that no directory above it has to be open to the user that it runs as.
    const node = ["/proc/self/fd/4", "-e", script, String(init.pid), init.startTime, String(egress ? egressPort : 0)]
    const command = [...isolation.enterNetwork(init), ...node]
    const gateway = yield* Effect.acquireRelease(
      attemptNow("connect", () => begin(command, user, egress?.serve)),
      ({ end }) => end
    )
    // Watched for as long as it is this one that is meant by `of`.
    const forgotten = Effect.forkIn(RcMap.invalidate(gateways, of), scope)
    yield* Effect.forkScoped(Effect.andThen(gateway.ended, forgotten))
    yield* Effect.timeoutOrElse(gateway.ready, {
      duration: upWithin,
      orElse: () => Effect.fail(failed("the gateway of a sandbox took too long"))
    })
    return gateway
  })

  const gateways: RcMap.RcMap<Of, Gateway, SandboxUnavailable> = yield* RcMap.make({
    lookup: begun,
    idleTimeToLive: (of: Of) => (of.registry ? Duration.infinity : idleKept)
  })

  /** A failure is nothing to keep. */
  const get = ({ booted: init, spec }: Running) => {
    const of: Of = { init, user: isolation.userOf(spec), registry: spec.registry === true }
    return Effect.tapError(RcMap.get(gateways, of), () => RcMap.invalidate(gateways, of))
  }

  return {
    /** Completes once the sandbox has its gateway. */
    up: (machine: Running) => Effect.scoped(Effect.asVoid(get(machine))),
    dial: (machine: Running, port: Port) => Effect.scoped(Effect.flatMap(get(machine), ({ dial }) => dial(port))),
    /** Ends the gateway of a run of a sandbox, and what goes out through it. */
    end: (init: ProcessMark) =>
      Effect.flatMap(RcMap.keys(gateways), (all) =>
        Effect.forEach(
          [...all].filter((of) => of.init.pid === init.pid && of.init.startTime === init.startTime),
          (of) => RcMap.invalidate(gateways, of),
          { discard: true }
        )
      )
  }
})
