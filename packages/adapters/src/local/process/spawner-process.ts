/** The process of `Spawner.ts`: starts what it is told to, and ends with the server. What it started lives on. */
import type { ChildProcess } from "node:child_process"
import { writeFileSync } from "node:fs"
import { connect, type Socket } from "node:net"
import { harden } from "../isolation/hardening.ts"
import {
  type Connection,
  type Introduction,
  isRoot,
  type Order,
  pipes,
  type Report,
  start,
  startUntil,
  type Stdio,
  type Withdrawal
} from "./Spawn.ts"

/**
 * The out-of-memory score of what is started here, so that the kernel ends it before the server. If the server has
 * CAP_SYS_RESOURCE, a sandbox can't lower its score below this.
 */
const outOfMemoryScore = "200"

const children = new Map<number, ChildProcess>()

const report = (message: Report | Introduction) => {
  // The server may be gone by now.
  process.send?.(message, undefined, undefined, () => undefined)
}

/** Ends a program and what it started, unless that left its group. */
const kill = (child: ChildProcess | undefined) => {
  if (child?.pid === undefined) return
  try {
    process.kill(-child.pid, "SIGKILL")
  } catch {
    // It ended in between.
  }
}

/** A connection to the server's socket that has said what it is for. */
const connected = (address: string, header: string) =>
  new Promise<Socket>((resolve, reject) => {
    const socket = connect(address)
    socket.on("error", reject).on("connect", () => socket.write(header, () => resolve(socket)))
  })

/** Starts a program whose streams lead to the server, and reports its end. */
const startConnected = async ({ id, pipes: wanted, program, socket, token }: Connection) => {
  const opened: Array<Socket> = []
  try {
    const stdio: Array<Stdio> = ["ignore", "ignore", "ignore", "ignore"]
    for (const pipe of wanted) {
      const index = pipes.indexOf(pipe)
      const end = await connected(socket, token + index)
      opened.push(end)
      stdio[index] = end
    }
    const child = start(program, stdio)
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
    for (const end of opened) end.destroy()
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

process.on("message", (message: Order | Connection | Withdrawal) => {
  if ("kill" in message) return kill(children.get(message.id))
  if ("socket" in message) return void startConnected(message)
  const { id, program, until } = message
  const child = startUntil(program, until, (ended) => {
    children.delete(id)
    report({ id, ended })
  })
  if (child !== undefined) children.set(id, child)
})

report({ hardening })

process.on("disconnect", () => process.exit(0))

// It shares the server's stderr, whose reader may be gone.
process.stderr.on("error", () => undefined)

// A terminal's interrupt goes to all of its processes; this one goes when the server does.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => undefined)
