/** The bodies of answers. What is not there is left out: clients take no null for it. */
import type { StartedCommand } from "@castellan/domain/sandbox/Command.ts"
import {
  expiryOf,
  isUsable,
  type KeptCommand,
  type KeptSandbox,
  type KeptSession,
  type KeptSnapshot
} from "../state/Kept.ts"

/** The value of a key, where there is one. */
const given = <K extends string>(key: K, value: unknown) => (value === undefined ? {} : { [key]: value })

/** The port of the terminal inside each sandbox. Nothing listens there, but some clients won't do without it. */
const interactivePort = 23_456

const over = ({ status }: KeptSession) => status === "stopped" || status === "failed"

/** A session, with its sandbox's home. */
export const session = (one: KeptSession, home: string) => {
  const { settings } = one
  return {
    id: one.id,
    projectId: one.sandbox.owner.projectId,
    sourceSandboxName: one.sandbox.name,
    status: one.status,
    memory: settings.memory,
    vcpus: settings.vcpus,
    region: settings.region,
    runtime: settings.runtime,
    timeout: one.timeout,
    cwd: home,
    interactivePort,
    networkPolicy: one.networkPolicy,
    requestedAt: one.createdAt,
    createdAt: one.createdAt,
    startedAt: one.createdAt,
    updatedAt: one.updatedAt,
    ...given("sourceSnapshotId", one.sourceSnapshotId),
    ...given("requestedStopAt", one.requestedStopAt),
    ...given("stoppedAt", one.stoppedAt),
    ...given("snapshottedAt", one.snapshottedAt),
    ...(over(one) ? { duration: (one.stoppedAt ?? one.updatedAt) - one.createdAt } : {})
  }
}

/** The state of a sandbox: it knows fewer than its sessions do. */
const statusOf = ({ session }: KeptSandbox) =>
  over(session) ? "stopped" : session.status === "running" || session.status === "pending" ? "running" : "stopping"

/** A sandbox, with its home. */
export const sandbox = (one: KeptSandbox, home: string) => {
  const { env: _, ports: _ports, ...shown } = one.settings
  const isRunning = statusOf(one) === "running"
  return {
    name: one.name,
    ...Object.fromEntries(Object.entries(shown).filter(([, value]) => value !== undefined)),
    status: statusOf(one),
    cwd: home,
    createdAt: one.createdAt,
    updatedAt: one.updatedAt,
    statusUpdatedAt: one.statusUpdatedAt,
    currentSessionId: one.session.id,
    ...given("currentSnapshotId", one.currentSnapshotId),
    ...(isRunning ? { expiresAt: one.session.createdAt + one.session.timeout } : {})
  }
}

/** Nothing here knows how large a snapshot is: about what Vercel's smallest are. */
const snapshotSize = 256 * 1024 * 1024

/** A snapshot, as it is at that moment. */
export const snapshot = (one: KeptSnapshot, now: number) => ({
  id: one.id,
  sourceSessionId: one.sourceSessionId,
  region: one.region,
  regions: [one.region],
  status: isUsable(one, now) ? "created" : "deleted",
  sizeBytes: snapshotSize,
  creationMethod: one.method,
  createdAt: one.createdAt,
  updatedAt: one.updatedAt,
  ...given("parentId", one.parentId),
  ...given("lastUsedAt", one.lastUsedAt),
  ...given("expiresAt", expiryOf(one))
})

/** What a process that was sent the signal exits with. */
const exitCodeOf = ({ signal }: KeptCommand, { end }: StartedCommand): number | null => {
  if (end === null) return null
  if (end.failure === "command_not_found") return 127
  return end.by === "killed" && signal !== undefined ? 128 + signal : end.exitCode
}

/** A command, with what the provider knows of it. */
export const command = (one: KeptCommand, session: KeptSession, started: StartedCommand) => ({
  id: one.id,
  name: one.name,
  args: one.args,
  cwd: one.cwd,
  sessionId: session.id,
  exitCode: exitCodeOf(one, started),
  startedAt: one.startedAt,
  ...(started.end === null ? {} : { durationMs: started.end.at.epochMilliseconds - one.startedAt })
})
