/** The record of a sandbox, as `spec.json` in the sandbox's directory stores it. */
import type { NetworkPolicy } from "@castellan/domain/network/NetworkPolicy.ts"
import type { Port } from "@castellan/domain/sandbox/Port.ts"
import { Sandbox } from "@castellan/domain/sandbox/Sandbox.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { DateTime } from "effect"

export interface SandboxRecord {
  readonly name: SandboxName
  /** Epoch milliseconds, as `expiresAt`. */
  readonly createdAt: number
  readonly expiresAt: number
  readonly status: "pending" | "running" | "stopped" | "failed"
  /** The newest incarnation. Absent in records of older servers. */
  readonly incarnation?: string
  readonly reason: string | null
  /** The ids of the sandbox's layers, newest first. */
  readonly chain: ReadonlyArray<string>
  /** As in `SandboxSpec`. Absent in records of older servers. */
  readonly ports?: ReadonlyArray<Port>
  readonly registry?: boolean
  /** Absent if the sandbox has the policy of the deployment. */
  readonly network?: NetworkPolicy
  /** The host's user that the sandbox runs as. Absent if it shares a user with other sandboxes. */
  readonly user?: number
  /** The boot of the host during which the sandbox was started, and `Isolation.version` at that time. */
  readonly bootId: string
  readonly form?: number
}

/** The incarnation of a sandbox that runs, or the one that ran last. */
export const incarnationOf = (record: SandboxRecord): string => record.incarnation ?? "first"

export const toSandbox = (record: SandboxRecord): Sandbox =>
  new Sandbox({
    name: record.name,
    status: record.status,
    createdAt: DateTime.makeUnsafe(record.createdAt),
    incarnation: incarnationOf(record),
    expiresAt: DateTime.makeUnsafe(record.expiresAt),
    reason: record.reason
  })
