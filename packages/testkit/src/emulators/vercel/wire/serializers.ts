/** The bodies of responses. Missing values are omitted, since clients do not accept null. */
import type { StartedCommand } from "@castellan/domain/sandbox/Command.ts"
import {
  expiryOf,
  isUsable,
  type CommandModel,
  type SandboxModel,
  type SessionModel,
  type SnapshotModel
} from "../state/models.ts"

/** An object with the key unless its value is undefined. */
const optional = <K extends string>(key: K, value: unknown) => (value === undefined ? {} : { [key]: value })

/** The port of the terminal in each sandbox. Nothing listens there, but some clients require the field. */
const interactivePort = 23_456

const over = ({ status }: SessionModel) => status === "stopped" || status === "failed"

/** A session. */
export const session = (one: SessionModel, home: string) => {
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
    ...optional("sourceSnapshotId", one.sourceSnapshotId),
    ...optional("requestedStopAt", one.requestedStopAt),
    ...optional("stoppedAt", one.stoppedAt),
    ...optional("snapshottedAt", one.snapshottedAt),
    ...(over(one) ? { duration: (one.stoppedAt ?? one.updatedAt) - one.createdAt } : {})
  }
}

/** The status of a sandbox, which has fewer values than that of a session. */
const statusOf = ({ session }: SandboxModel) =>
  over(session) ? "stopped" : session.status === "running" || session.status === "pending" ? "running" : "stopping"

/** A sandbox. */
export const sandbox = (one: SandboxModel, home: string) => {
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
    ...optional("currentSnapshotId", one.currentSnapshotId),
    ...(isRunning ? { expiresAt: one.session.createdAt + one.session.timeout } : {})
  }
}

/** The size of every snapshot, since the emulator does not know it: about that of Vercel's smallest. */
const snapshotSize = 256 * 1024 * 1024

/** A snapshot with its status at this time. */
export const snapshot = (one: SnapshotModel, now: number) => ({
  id: one.id,
  sourceSessionId: one.sourceSessionId,
  region: one.region,
  regions: [one.region],
  status: isUsable(one, now) ? "created" : "deleted",
  sizeBytes: snapshotSize,
  creationMethod: one.method,
  createdAt: one.createdAt,
  updatedAt: one.updatedAt,
  ...optional("parentId", one.parentId),
  ...optional("lastUsedAt", one.lastUsedAt),
  ...optional("expiresAt", expiryOf(one))
})

/** The exit code of a command, which depends on the signal that it was sent. */
const exitCodeOf = ({ signal }: CommandModel, { end }: StartedCommand): number | null => {
  if (end === null) return null
  if (end.failure === "command_not_found") return 127
  return end.by === "killed" && signal !== undefined ? 128 + signal : end.exitCode
}

/** A command with its end at the provider. */
export const command = (one: CommandModel, session: SessionModel, started: StartedCommand) => ({
  id: one.id,
  name: one.name,
  args: one.args,
  cwd: one.cwd,
  sessionId: session.id,
  exitCode: exitCodeOf(one, started),
  startedAt: one.startedAt,
  ...(started.end === null ? {} : { durationMs: started.end.at.epochMilliseconds - one.startedAt })
})
