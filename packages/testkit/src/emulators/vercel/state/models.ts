/** The stored sandboxes, sessions, commands and snapshots. */
import type { CommandId } from "@castellan/domain/sandbox/Command.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import type { SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import type { Deferred, Semaphore } from "effect"
import { randomBytes } from "node:crypto"
import type { NetworkPolicy } from "./NetworkPolicy.ts"

/** The owner of a sandbox. */
export interface Owner {
  readonly teamId: string
  readonly projectId: string
}

/** How many snapshots of a sandbox are kept, and whether the others are deleted or expire. */
export interface Retention {
  readonly count: number
  readonly expiration?: number
  readonly deleteEvicted?: boolean
}

/** The settings of a sandbox. Times are in milliseconds. */
export interface Settings {
  persistent: boolean
  timeout: number
  vcpus: number
  memory: number
  region: string
  failoverRegions: ReadonlyArray<string>
  runtime: string
  image?: string | undefined
  networkId?: string | undefined
  networkPolicy: NetworkPolicy
  tags: Readonly<Record<string, string>>
  env: Readonly<Record<string, string>>
  ports: ReadonlyArray<number>
  snapshotExpiration?: number | undefined
  keepLastSnapshots?: Retention | undefined
}

/** A command. The provider knows its end. */
export interface CommandModel {
  readonly id: CommandId
  readonly name: string
  readonly args: ReadonlyArray<string>
  readonly cwd: string
  readonly startedAt: number
  /** The number of the last signal that was sent to it. */
  signal?: number
}

/** The states of a session. */
export type SessionStatus = "pending" | "running" | "stopping" | "snapshotting" | "stopped" | "failed"

/** One run of a sandbox. */
export interface SessionModel {
  readonly id: string
  readonly sandbox: SandboxModel
  status: SessionStatus
  readonly createdAt: number
  updatedAt: number
  /** The incarnation at the provider. */
  incarnation: string
  timeout: number
  networkPolicy: NetworkPolicy
  /** The settings of the sandbox when the session started. */
  readonly settings: Settings
  readonly sourceSnapshotId?: string | undefined
  /** A planned delay of its end, in ms. */
  slowness?: number
  requestedStopAt?: number
  stoppedAt?: number
  snapshottedAt?: number
  readonly commands: Map<string, CommandModel>
  /** Completes when the session stops accepting commands, which ends its streams. */
  readonly closing: Deferred.Deferred<void>
}

/** The address of a port. */
export interface Route {
  readonly url: string
  readonly subdomain: string
  readonly port: number
}

/** A sandbox. */
export interface SandboxModel {
  readonly name: string
  readonly owner: Owner
  readonly settings: Settings
  readonly createdAt: number
  updatedAt: number
  statusUpdatedAt: number
  /** The name at the provider. */
  readonly providerName: SandboxName
  currentSnapshotId?: string | undefined
  /** The snapshot whose files the stopped sandbox still has at the provider. */
  filesOf?: string | undefined
  /** The ports that are declared at the provider. */
  declared: ReadonlyArray<number>
  session: SessionModel
  readonly sessions: Array<SessionModel>
  routes: ReadonlyArray<Route>
  /** Held while a session starts or ends. */
  readonly lock: Semaphore.Semaphore
}

/** A snapshot. The provider has its files. */
export interface SnapshotModel {
  readonly id: string
  readonly owner: Owner
  readonly providerId: SnapshotId
  readonly sandboxName: string
  readonly sourceSessionId: string
  readonly parentId?: string | undefined
  readonly region: string
  readonly method: "automatic" | "manual"
  readonly createdAt: number
  updatedAt: number
  lastUsedAt?: number
  /** How long it is kept after its last use, in ms; 0 means for ever. */
  expiration: number
  status: "created" | "deleted"
}

const letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

/** A random text of letters and digits. */
export const randomId = (length: number): string =>
  Array.from(randomBytes(length), (byte) => letters[byte % letters.length]).join("")

/** When a snapshot expires; undefined if never. */
export const expiryOf = (snapshot: SnapshotModel): number | undefined =>
  snapshot.expiration === 0 ? undefined : (snapshot.lastUsedAt ?? snapshot.createdAt) + snapshot.expiration

/** Whether a sandbox can boot from the snapshot. */
export const isUsable = (snapshot: SnapshotModel | undefined, now: number): snapshot is SnapshotModel =>
  snapshot?.status === "created" && now < (expiryOf(snapshot) ?? Infinity)
