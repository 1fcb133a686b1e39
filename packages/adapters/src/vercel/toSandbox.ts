/** Converts the SDK's description of a sandbox to the domain's `Sandbox`. */
import { Sandbox } from "@castellan/domain/sandbox/Sandbox.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import type { Sandbox as Vm, Session } from "@vercel/sandbox"
import { DateTime } from "effect"
import type { ListedSandbox } from "./Api.ts"

const statuses: Record<Session["status"], Sandbox["status"]> = {
  pending: "pending",
  running: "running",
  stopping: "stopping",
  snapshotting: "stopping",
  stopped: "stopped",
  // Its files are still there, as of its last stop.
  aborted: "stopped",
  failed: "stopped"
}

/** A sandbox that was requested by its name. */
export const toSandbox = (vm: Vm): Sandbox => {
  const session = vm.currentSession()
  const hasFiles = vm.currentSnapshotId !== undefined
  const isLost = (session.status === "failed" || session.status === "aborted") && !hasFiles
  const status = isLost ? "failed" : statuses[session.status]
  const isOver = status === "stopped" || status === "failed"
  const end = (session.startedAt ?? session.createdAt).getTime() + session.timeout
  return new Sandbox({
    name: SandboxName.make(vm.name),
    status,
    createdAt: DateTime.makeUnsafe(vm.createdAt),
    incarnation: session.sessionId,
    expiresAt: DateTime.makeUnsafe(isOver ? (vm.statusUpdatedAt ?? vm.updatedAt) : end),
    reason: isLost ? "Its virtual machine failed" : null
  })
}

/** A sandbox from a list, which has fewer fields. */
export const fromListing = (listed: ListedSandbox): Sandbox => {
  const status = statuses[listed.status as Session["status"]] ?? "stopped"
  const changedAt = listed.statusUpdatedAt ?? listed.updatedAt
  const isOver = status === "stopped"
  return new Sandbox({
    name: SandboxName.make(listed.name),
    status,
    createdAt: DateTime.makeUnsafe(listed.createdAt),
    incarnation: listed.currentSessionId,
    expiresAt: DateTime.makeUnsafe(isOver ? changedAt : (listed.expiresAt ?? changedAt + (listed.timeout ?? 0))),
    reason: null
  })
}
