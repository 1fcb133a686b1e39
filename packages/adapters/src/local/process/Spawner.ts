/**
 * A small process that starts all programs of sandboxes for the server. It is hardened, and its children inherit that; see
 * `hardening.ts`. It is also fast: a fork copies the page tables of its caller, which takes 1 ms in the spawner and 7 ms in a
 * server with an embedded database, and it does not block the server.
 */
import { SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Effect } from "effect"
import { type ChildProcess, fork } from "node:child_process"
import { randomBytes } from "node:crypto"
import { createServer, type Server, type Socket } from "node:net"
import { fileURLToPath } from "node:url"
import { attemptSync, isTransient } from "./attempt.ts"
import type { Hardening } from "./hardening.ts"
import type { Program, ProgramResult, WaitFor } from "./Spawn.ts"
import {
  type ConnectedStartRequest,
  type KillRequest,
  type Pipe,
  pipes as allPipes,
  type SpawnerReady,
  type SpawnerReport,
  type StartRequest
} from "./spawnerProtocol.ts"

interface PendingRequest {
  readonly onSpawned?: () => void
  readonly onEnded: (result: ProgramResult | Error) => void
}

interface Spawner {
  readonly child: ChildProcess
  readonly pending: Map<number, PendingRequest>
  readonly hardening: Promise<Hardening>
}

let current: Spawner | undefined
let requests = 0

/** Throws if no process can be started. */
const startSpawner = (): Spawner => {
  const child = fork(fileURLToPath(new URL("./spawner-process.ts", import.meta.url)), {
    // Programs of sandboxes must not see the server's environment.
    env: {},
    execArgv: [],
    stdio: ["ignore", "ignore", "inherit", "ipc"]
  })
  child.on("error", () => undefined)
  // Node leaves the channel undefined when it runs out of descriptors.
  if (child.channel === undefined || child.channel === null) {
    throw Object.assign(new Error("no descriptors are left for the spawner process"), { code: "EMFILE" })
  }
  const pending = new Map<number, PendingRequest>()
  let onReady: (hardening: Hardening) => void
  let onFailed: (cause: Error) => void
  const hardening = new Promise<Hardening>((resolve, reject) => {
    onReady = resolve
    onFailed = reject
  })
  hardening.catch(() => undefined)
  const spawner = { child, pending, hardening }
  child.on("message", (message: SpawnerReport | SpawnerReady) => {
    if ("hardening" in message) return onReady(message.hardening)
    if ("spawned" in message) return pending.get(message.id)?.onSpawned?.()
    pending.get(message.id)?.onEnded(message.ended)
    settle(spawner, message.id)
  })
  const fail = () => {
    if (current === spawner) current = undefined
    const cause = new Error("the spawner process ended")
    onFailed(cause)
    for (const [id, { onEnded }] of pending) {
      onEnded(cause)
      settle(spawner, id)
    }
  }
  child.on("error", fail)
  child.on("exit", fail)
  child.unref()
  child.channel.unref()
  return spawner
}

const spawnerFor = (operation: string) => attemptSync(operation, () => (current ??= startSpawner()))

/** The channel keeps this process alive only while a request is pending. */
const settle = ({ child, pending }: Spawner, id: number) => {
  pending.delete(id)
  if (pending.size === 0) child.channel?.unref()
}

const register = (spawner: Spawner, request: PendingRequest): number => {
  const id = requests++
  spawner.child.channel?.ref()
  spawner.pending.set(id, request)
  return id
}

const kill = (spawner: Spawner, id: number) => {
  if (spawner.child.connected) spawner.child.send({ id, kill: true } satisfies KillRequest)
}

/** How the spawner process is hardened, and therefore every program that it starts. */
export const hardening: Effect.Effect<Hardening, SandboxUnavailable> = Effect.flatMap(spawnerFor("open"), (spawner) => {
  spawner.child.channel?.ref()
  return Effect.tryPromise({
    try: () => spawner.hardening,
    catch: (cause) => new SandboxUnavailable({ operation: "open", retryable: true, cause })
  }).pipe(
    Effect.ensuring(
      Effect.sync(() => {
        if (spawner.pending.size === 0) spawner.child.channel?.unref()
      })
    )
  )
})

/**
 * Starts a program and waits; an interruption kills it. Fails with a retryable `SandboxUnavailable` if the spawner process
 * ended, or if the host lacked a resource to start the program. Other failures to start are an `errno` of the result.
 */
export const runUntil = (
  operation: string,
  program: Program,
  until: WaitFor
): Effect.Effect<ProgramResult, SandboxUnavailable> =>
  Effect.flatMap(spawnerFor(operation), (spawner) =>
    Effect.callback<ProgramResult, SandboxUnavailable>((resume) => {
      const unavailable = (cause: unknown) => Effect.fail(new SandboxUnavailable({ operation, retryable: true, cause }))
      const id = register(spawner, {
        onEnded: (result) => {
          if (result instanceof Error) resume(unavailable(result))
          else resume(isTransient(result.errno) ? unavailable(result.stderr) : Effect.succeed(result))
        }
      })
      spawner.child.send({ id, program, until } satisfies StartRequest)
      return Effect.sync(() => {
        settle(spawner, id)
        kill(spawner, id)
      })
    })
  )

/** Runs a program to its end; see `runUntil`. */
export const run = (operation: string, command: ReadonlyArray<string>, options: Omit<Program, "command">) =>
  runUntil(operation, { command, ...options }, "ended")

/** A program that runs, with the streams that were requested. */
export interface ConnectedProgram {
  readonly pipe: (pipe: Pipe) => Socket
  /** The exit code once the program has ended. Rejects if the spawner process ends first. */
  readonly ended: Promise<number>
  readonly kill: () => void
}

/** Bytes of a token, which is sent as hexadecimal digits. */
const tokenBytes = 16

const randomToken = () => randomBytes(tokenBytes).toString("hex")

/** The programs whose connections have not all arrived, by token. */
const awaitingConnections = new Map<string, (index: number, socket: Socket) => void>()

interface Listener {
  readonly server: Server
  readonly address: string
}

let listener: Promise<Listener> | undefined

const listen = () =>
  new Promise<Listener>((resolve, reject) => {
    // An abstract address, which needs no file.
    const address = `\0castellan-${randomToken()}`
    const server = createServer(receive)
    server.on("error", reject).listen(address, () => {
      server.unref()
      resolve({ server, address })
    })
  })

/** The listener for streams of programs. The next call tries again after a failure. */
const getListener = () =>
  (listener ??= listen().catch((cause) => {
    listener = undefined
    throw cause
  }))

/** Reads the header of a connection, which names its program and pipe. The bytes after it are the program's. */
const receive = (socket: Socket) => {
  // The reader of the stream adds its own listener.
  socket.on("error", () => socket.destroy())
  const onReadable = () => {
    const header: Buffer | null = socket.read(2 * tokenBytes + 1)
    if (header === null) return
    socket.off("readable", onReadable)
    const text = header.toString("latin1")
    const accept = awaitingConnections.get(text.slice(0, -1))
    if (accept === undefined) socket.destroy()
    else accept(Number(text.slice(-1)), socket)
  }
  socket.on("readable", onReadable)
}

/** Starts a program whose streams the caller reads and writes. The caller kills the program or lets it end. */
export const runConnected = async (program: Program, requested: ReadonlyArray<Pipe>): Promise<ConnectedProgram> => {
  const { address } = await getListener()
  const spawner = (current ??= startSpawner())
  const token = randomToken()
  const sockets = new Map<Pipe, Socket>()
  try {
    return await new Promise<ConnectedProgram>((resolve, reject) => {
      let isSpawned = false
      let onExit: (code: number) => void
      let onLost: (cause: Error) => void
      const ended = new Promise<number>((resolve, reject) => {
        onExit = resolve
        onLost = reject
      })
      ended.catch(() => undefined)
      const resolveIfComplete = () => {
        if (!isSpawned || sockets.size < requested.length) return
        resolve({ pipe: (pipe) => sockets.get(pipe)!, ended, kill: () => kill(spawner, id) })
      }
      awaitingConnections.set(token, (index, socket) => {
        sockets.set(allPipes[index]!, socket)
        resolveIfComplete()
      })
      const id = register(spawner, {
        onSpawned: () => {
          isSpawned = true
          resolveIfComplete()
        },
        onEnded: (result) => {
          if (result instanceof Error) {
            onLost(result)
            return reject(result)
          }
          onExit(result.code)
          // A program that did not start has no streams to wait for.
          if (!isSpawned) reject(Object.assign(new Error(result.stderr), { code: result.code }))
        }
      })
      const request: ConnectedStartRequest = { id, program, pipes: requested, socket: address, token }
      spawner.child.send(request)
    })
  } catch (cause) {
    for (const socket of sockets.values()) socket.destroy()
    throw cause
  } finally {
    awaitingConnections.delete(token)
  }
}
