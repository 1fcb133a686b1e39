/**
 * A small process that starts all programs of sandboxes for the server. It is hardened, and what it starts inherits that;
 * see `hardening.ts`. It is also quick: starting a process copies the page tables of the one that does it, which takes 1 ms
 * here and 7 ms in a server with a database inside, and the server does not wait for it.
 */
import { SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Effect } from "effect"
import { type ChildProcess, fork } from "node:child_process"
import { randomBytes } from "node:crypto"
import { createServer, type Server, type Socket } from "node:net"
import { fileURLToPath } from "node:url"
import type { Hardening } from "../isolation/hardening.ts"
import {
  type Connection,
  type Ended,
  type Introduction,
  type Order,
  type Pipe,
  pipes as allPipes,
  type Program,
  type Report,
  type Until,
  type Withdrawal
} from "./Spawn.ts"

interface Waiting {
  readonly spawned?: () => void
  readonly ended: (ended: Ended | Error) => void
}

interface Spawner {
  readonly child: ChildProcess
  readonly waiting: Map<number, Waiting>
  readonly hardening: Promise<Hardening>
}

let current: Spawner | undefined
let orders = 0

const begin = (): Spawner => {
  const child = fork(fileURLToPath(new URL("./spawner-process.ts", import.meta.url)), {
    // Nothing of the server's environment is needed there, and nothing of it shall get any further.
    env: {},
    execArgv: [],
    stdio: ["ignore", "ignore", "inherit", "ipc"]
  })
  const waiting = new Map<number, Waiting>()
  let introduce: (hardening: Hardening) => void
  let refuse: (cause: Error) => void
  const hardening = new Promise<Hardening>((resolve, reject) => {
    introduce = resolve
    refuse = reject
  })
  hardening.catch(() => undefined)
  const spawner = { child, waiting, hardening }
  child.on("message", (report: Report | Introduction) => {
    if ("hardening" in report) return introduce(report.hardening)
    if ("spawned" in report) return waiting.get(report.id)?.spawned?.()
    waiting.get(report.id)?.ended(report.ended)
    settle(spawner, report.id)
  })
  const gone = () => {
    if (current === spawner) current = undefined
    const cause = new Error("the process that starts others ended")
    refuse(cause)
    for (const [id, { ended }] of waiting) {
      ended(cause)
      settle(spawner, id)
    }
  }
  child.on("error", gone)
  child.on("exit", gone)
  child.unref()
  child.channel!.unref()
  return spawner
}

/** While somebody waits for a report this process has reason to live. */
const settle = ({ child, waiting }: Spawner, id: number) => {
  waiting.delete(id)
  if (waiting.size === 0) child.channel?.unref()
}

const expect = (spawner: Spawner, waiting: Waiting): number => {
  const id = orders++
  spawner.child.channel?.ref()
  spawner.waiting.set(id, waiting)
  return id
}

const withdraw = (spawner: Spawner, id: number) => {
  if (spawner.child.connected) spawner.child.send({ id, kill: true } satisfies Withdrawal)
}

/** What holds for every program that is started here. */
export const hardening: Effect.Effect<Hardening, SandboxUnavailable> = Effect.suspend(() => {
  const spawner = (current ??= begin())
  spawner.child.channel?.ref()
  return Effect.tryPromise({
    try: () => spawner.hardening,
    catch: (cause) => new SandboxUnavailable({ operation: "open", retryable: true, cause })
  }).pipe(
    Effect.ensuring(
      Effect.sync(() => {
        if (spawner.waiting.size === 0) spawner.child.channel?.unref()
      })
    )
  )
})

/** Starts a program and waits for what is asked; an interruption kills it. */
export const spawned = (operation: string, program: Program, until: Until): Effect.Effect<Ended, SandboxUnavailable> =>
  Effect.callback((resume) => {
    const spawner = (current ??= begin())
    const id = expect(spawner, {
      ended: (ended) =>
        resume(
          ended instanceof Error
            ? Effect.fail(new SandboxUnavailable({ operation, retryable: true, cause: ended }))
            : Effect.succeed(ended)
        )
    })
    spawner.child.send({ id, program, until } satisfies Order)
    return Effect.sync(() => {
      settle(spawner, id)
      withdraw(spawner, id)
    })
  })

/** Runs a program to its end. */
export const run = (operation: string, command: ReadonlyArray<string>, options: Omit<Program, "command">) =>
  spawned(operation, { command, ...options }, "ended")

/** A program that runs, with the streams that were asked for. */
export interface Connected {
  readonly pipe: (pipe: Pipe) => Socket
  /** Its exit code, once it has ended; rejects if that will not be known. */
  readonly ended: Promise<number>
  readonly kill: () => void
}

/** Bytes of a token, which is written in hexadecimal. */
const tokenBytes = 16

/** The programs whose connections are still to come. */
const expected = new Map<string, (index: number, socket: Socket) => void>()

/** Listens for the streams of programs, on an abstract address, which leaves no file behind. */
const listening = (() => {
  let server: Promise<{ readonly server: Server; readonly address: string }> | undefined
  const listen = () =>
    new Promise<{ readonly server: Server; readonly address: string }>((resolve, reject) => {
      const address = `\0castellan-${randomBytes(tokenBytes).toString("hex")}`
      const server = createServer(receive)
      server.on("error", reject).listen(address, () => {
        server.unref()
        resolve({ server, address })
      })
    })
  return () => (server ??= listen())
})()

/** Reads the header of a connection, which says which program it belongs to. The bytes after it are the program's. */
const receive = (socket: Socket) => {
  // Whoever reads the stream is told of errors again.
  socket.on("error", () => socket.destroy())
  const take = () => {
    const header: Buffer | null = socket.read(2 * tokenBytes + 1)
    if (header === null) return
    socket.off("readable", take)
    const text = header.toString("latin1")
    const accept = expected.get(text.slice(0, -1))
    if (accept === undefined) socket.destroy()
    else accept(Number(text.slice(-1)), socket)
  }
  socket.on("readable", take)
}

/** Starts a program whose streams the caller reads and writes. The caller kills it, or lets it end. */
export const connected = async (program: Program, wanted: ReadonlyArray<Pipe>): Promise<Connected> => {
  const { address } = await listening()
  const spawner = (current ??= begin())
  const token = randomBytes(tokenBytes).toString("hex")
  const sockets = new Map<Pipe, Socket>()
  try {
    return await new Promise<Connected>((resolve, reject) => {
      let isSpawned = false
      let finish: (code: number) => void
      let fail: (cause: Error) => void
      const ended = new Promise<number>((resolve, reject) => {
        finish = resolve
        fail = reject
      })
      ended.catch(() => undefined)
      const begun = () => {
        if (!isSpawned || sockets.size < wanted.length) return
        resolve({ pipe: (pipe) => sockets.get(pipe)!, ended, kill: () => withdraw(spawner, id) })
      }
      expected.set(token, (index, socket) => {
        sockets.set(allPipes[index]!, socket)
        begun()
      })
      const id = expect(spawner, {
        spawned: () => {
          isSpawned = true
          begun()
        },
        ended: (end) => {
          if (end instanceof Error) {
            fail(end)
            return reject(end)
          }
          finish(end.code)
          // A program that did not start has no streams to wait for.
          if (!isSpawned) reject(Object.assign(new Error(end.stderr), { code: end.code }))
        }
      })
      spawner.child.send({ id, program, pipes: wanted, socket: address, token } satisfies Connection)
    })
  } catch (cause) {
    for (const socket of sockets.values()) socket.destroy()
    throw cause
  } finally {
    expected.delete(token)
  }
}
