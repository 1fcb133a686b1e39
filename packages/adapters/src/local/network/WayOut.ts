/** Connects local sandboxes to the egress process through sockets in each sandbox's network. */
import type { NetworkPolicy } from "@castellan/domain/network/NetworkPolicy.ts"
import { webPorts } from "@castellan/domain/network/decide.ts"
import { SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Clock, Duration, Effect } from "effect"
import { closeSync, openSync } from "node:fs"
import type { Socket as DatagramSocket } from "node:dgram"
import type { Server, Socket } from "node:net"
import type { Authority } from "../../network/Certificates.ts"
import type { EgressHosts } from "../../network/Dialer.ts"
import * as EgressProcess from "../../network/EgressProcess.ts"
import type { Isolation, RunningSandbox } from "../isolation/Isolation.ts"
import { isAlive, type ProcessIdentity } from "../process/processes.ts"
import { collectStderr, isRoot, sharedSandboxUid, spawnProgram } from "../process/Spawn.ts"
import { makeSockets } from "./sockets-script.ts"

/** Ports of every sandbox with a network: SSH, HTTP and HTTPS. A policy may add others. */
const usualPorts = [22, ...webPorts]

/** Timeout of creating the sockets. */
const madeWithin = Duration.seconds(20)

/** Milliseconds until a sandbox that another server serves is checked again. */
const lookAgainAfter = 10_000

/** Milliseconds until a retry after a failure: the first and the longest delay. It doubles each time. */
const retryAfter = { first: 1000, longest: 60_000 }

const portsOf = (policy: NetworkPolicy): ReadonlyArray<number> => [
  ...new Set([...usualPorts, ...(typeof policy === "string" ? [] : policy.allow.flatMap(({ ports = [] }) => ports))])
]

const failure = (cause: unknown) => new SandboxUnavailable({ operation: "network", retryable: true, cause })

/** The user of the egress process if the server is root; no sandbox runs as this user. */
const egressUser = sharedSandboxUid + 1

export const make = Effect.fnUntraced(function* (
  isolation: Isolation,
  options: {
    readonly policy: NetworkPolicy
    readonly hosts?: EgressHosts
    readonly authority: Authority | undefined
    readonly trusted: ReadonlyArray<string>
  }
) {
  const egress = yield* Effect.acquireRelease(
    Effect.sync(() =>
      EgressProcess.make({
        trusted: options.trusted,
        ...(options.authority === undefined ? {} : { authority: options.authority }),
        ...(options.hosts === undefined ? {} : { hosts: options.hosts }),
        ...(isRoot ? { user: egressUser } : {})
      })
    ),
    ({ end }) => Effect.sync(end)
  )
  const opening = new Map<string, Promise<void>>()
  /** Networks that are not opened now, because another server serves them or because the last attempt failed. */
  const postponed = new Map<string, { readonly until: number; readonly failedFor?: number }>()
  /** The first processes of the sandboxes whose networks are served or postponed. */
  const known = new Map<string, ProcessIdentity>()

  const keyOf = ({ pid, startTime }: ProcessIdentity) => `${pid} ${startTime}`

  const forget = (key: string) => {
    egress.close(key)
    postponed.delete(key)
    known.delete(key)
  }

  /** Closes the networks of sandboxes that ended by themselves or were stopped by another server. */
  const closeEnded = Effect.sync(() => {
    for (const [key, init] of known) if (!isAlive(init)) forget(key)
  })

  const policyOf = ({ record }: RunningSandbox): NetworkPolicy =>
    // A sandbox with npm reaches the registry through a separate proxy.
    record.registry === true ? "none" : (record.network ?? options.policy)

  /** Whether the sandbox has its own network and a policy that allows something. */
  const isNeeded = (sandbox: RunningSandbox) => !isolation.sharesNetwork && policyOf(sandbox) !== "none"

  const isOpen = (sandbox: RunningSandbox) => !isNeeded(sandbox) || egress.serves(keyOf(sandbox.init))

  /** Runs the program that creates the sockets. Returns false if another server has created them. */
  const sockets = ({ init, record }: RunningSandbox, policy: NetworkPolicy) =>
    new Promise<boolean>((resolve, reject) => {
      const node = openSync(process.execPath, "r")
      const ports = portsOf(policy).map(String)
      // Node is started by descriptor, so its user needs no access to the directories above it.
      const program = ["/proc/self/fd/4", "-e", makeSockets, String(init.pid), init.startTime, ...ports]
      const child = (() => {
        try {
          return spawnProgram(
            { command: [...isolation.enterNetworkCommand(init), ...program], cwd: "/", user: isolation.userOf(record) },
            ["ignore", "ignore", "pipe", "ipc", node]
          )
        } finally {
          closeSync(node)
        }
      })()
      const errors = collectStderr(child)
      const handed: Array<Promise<void>> = []
      const late = setTimeout(() => child.kill("SIGKILL"), Duration.toMillis(madeWithin))
      child.on(
        "message",
        (message: { port?: number; failed?: string; done?: true }, socket?: Server | DatagramSocket) => {
          if (message.port !== undefined) {
            // Node leaves out a socket for which no descriptor is left.
            if (socket === undefined) return reject(new Error("no descriptors are left for the sockets of a network"))
            // Until it is closed here, this process may accept a connection for which nothing here listens.
            socket.on("connection", (early: Socket) => early.resetAndDestroy())
            handed.push(egress.handOver(keyOf(init), message.port, socket))
          } else if (message.failed === "EADDRINUSE") resolve(false)
          else if (message.failed !== undefined) reject(new Error(message.failed))
          else void Promise.all(handed).then(() => resolve(true))
        }
      )
      child.on("error", reject)
      child.on("exit", (code) => {
        clearTimeout(late)
        if (code !== 0)
          reject(new Error(`failed to create the sockets of the sandbox network (${code}): ${errors().trim()}`))
      })
    })

  const open = async (sandbox: RunningSandbox, now: number) => {
    const key = keyOf(sandbox.init)
    known.set(key, sandbox.init)
    try {
      await egress.serve(key, { policy: policyOf(sandbox), secrets: {} })
      if (await sockets(sandbox, policyOf(sandbox))) return void postponed.delete(key)
      egress.close(key)
      postponed.set(key, { until: now + lookAgainAfter })
    } catch (cause) {
      egress.close(key)
      const failedFor = Math.min((postponed.get(key)?.failedFor ?? retryAfter.first / 2) * 2, retryAfter.longest)
      postponed.set(key, { until: now + failedFor, failedFor })
      throw cause
    }
  }

  /** Whether there is nothing to open now. */
  const isSettled = (sandbox: RunningSandbox, now: number) =>
    isOpen(sandbox) || (postponed.get(keyOf(sandbox.init))?.until ?? 0) > now

  /** Whether a command may start: not after a failure to open the network, without another attempt. */
  const isReady = (sandbox: RunningSandbox, now: number) =>
    isSettled(sandbox, now) && (isOpen(sandbox) || postponed.get(keyOf(sandbox.init))?.failedFor === undefined)

  /** Completes once this server or another one serves the sandbox's network. */
  const ensure = Effect.fnUntraced(function* (sandbox: RunningSandbox) {
    const key = keyOf(sandbox.init)
    const now = yield* Clock.currentTimeMillis
    const pending = opening.get(key)
    if (pending === undefined && isReady(sandbox, now)) return
    yield* Effect.tryPromise({
      try: () => {
        const promise = pending ?? open(sandbox, now).finally(() => opening.delete(key))
        opening.set(key, promise)
        return promise
      },
      catch: failure
    })
  })

  /** Closes the network of an incarnation of a sandbox. */
  const end = (init: ProcessIdentity) => Effect.sync(() => forget(keyOf(init)))

  return { closeEnded, ensure, end, isNeeded, isSettled }
})
