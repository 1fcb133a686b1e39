/** The spawner process: starts programs at the request of `Spawner.ts` and ends with the server. Its children live on. */
import type { ChildProcess } from "node:child_process"
import { writeFileSync } from "node:fs"
import { connect, type Socket } from "node:net"
import { harden } from "./hardening.ts"
import { isRoot, spawnProgram, spawnUntil, type Stdio } from "./Spawn.ts"
import {
  type ConnectedStartRequest,
  type KillRequest,
  pipes,
  type SpawnerReady,
  type SpawnerReport,
  type StartRequest
} from "./spawnerProtocol.ts"

/**
 * The out-of-memory score of all programs of sandboxes, so that the kernel kills them before the server. If the server has
 * CAP_SYS_RESOURCE, a sandbox can't lower its score below this.
 */
const outOfMemoryScore = "200"

const children = new Map<number, ChildProcess>()

const report = (message: SpawnerReport | SpawnerReady) => {
  // The server may have ended; then sending fails.
  process.send?.(message, undefined, undefined, () => undefined)
}

/** Kills a program and its process group. */
const kill = (child: ChildProcess | undefined) => {
  if (child?.pid === undefined) return
  try {
    process.kill(-child.pid, "SIGKILL")
  } catch {
    // The program has already ended.
  }
}

/** Connects to the server's socket and sends the header. */
const connectPipe = (address: string, header: string) =>
  new Promise<Socket>((resolve, reject) => {
    const socket = connect(address)
    socket.on("error", reject).on("connect", () => socket.write(header, () => resolve(socket)))
  })

const startConnected = async ({ id, pipes: requested, program, socket, token }: ConnectedStartRequest) => {
  const connections: Array<Socket> = []
  try {
    const stdio: Array<Stdio> = ["ignore", "ignore", "ignore", "ignore"]
    for (const pipe of requested) {
      const index = pipes.indexOf(pipe)
      const connection = await connectPipe(socket, token + index)
      connections.push(connection)
      stdio[index] = connection
    }
    const child = spawnProgram(program, stdio)
    children.set(id, child)
    child.on("error", (cause) => report({ id, ended: { code: 127, stdout: "", stderr: cause.message } }))
    child.on("exit", (code) => {
      children.delete(id)
      report({ id, ended: { code: code ?? 137, stdout: "", stderr: "" } })
    })
    child.on("spawn", () => report({ id, spawned: true }))
  } catch (cause) {
    report({ id, ended: { code: 126, stdout: "", stderr: String(cause) } })
  } finally {
    // The program has its own copies.
    for (const connection of connections) connection.destroy()
  }
}

const hardening = await harden()

if (isRoot) {
  try {
    writeFileSync("/proc/self/oom_score_adj", outOfMemoryScore)
  } catch {
    // A container may forbid it.
  }
}

process.on("message", (message: StartRequest | ConnectedStartRequest | KillRequest) => {
  if ("kill" in message) return kill(children.get(message.id))
  if ("socket" in message) return void startConnected(message)
  const { id, program, until } = message
  const child = spawnUntil(program, until, (result) => {
    children.delete(id)
    report({ id, ended: result })
  })
  if (child !== undefined) children.set(id, child)
})

report({ hardening })

process.on("disconnect", () => process.exit(0))

// It shares the server's standard error, whose reader may have gone.
process.stderr.on("error", () => undefined)

// A terminal sends its interrupt to the whole process group. This process ends when the server does.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => undefined)
