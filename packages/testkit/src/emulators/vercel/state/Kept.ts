/** What the emulator keeps of sandboxes, of their sessions and commands, and of snapshots. */
import type { CommandId } from "@castellan/domain/sandbox/Command.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import type { SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import type { Deferred, Semaphore } from "effect"
import { randomBytes } from "node:crypto"
import type { NetworkPolicy } from "./NetworkPolicy.ts"

/** Whose a sandbox is. */
export interface Owner {
  readonly teamId: string
  readonly projectId: string
}

/** How many snapshots of a sandbox are kept, and what becomes of the others. */
export interface Retention {
  readonly count: number
  readonly expiration?: number
  readonly deleteEvicted?: boolean
}

/** What the owner of a sandbox may choose of it. Times are milliseconds. */
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
  tags: Record<string, string>
  env: Record<string, string>
  ports: ReadonlyArray<number>
  snapshotExpiration?: number | undefined
  keepLastSnapshots?: Retention | undefined
}

/** A command; the provider knows how it ended. */
export interface KeptCommand {
  readonly id: CommandId
  readonly name: string
  readonly args: ReadonlyArray<string>
  readonly cwd: string
  readonly startedAt: number
  /** The last signal it was sent, by number. */
  signal?: number
}

/** The states of a session. */
export type SessionStatus = "pending" | "running" | "stopping" | "snapshotting" | "stopped" | "failed"

/** A run of a sandbox. */
export interface KeptSession {
  readonly id: string
  readonly sandbox: KeptSandbox
  status: SessionStatus
  readonly createdAt: number
  updatedAt: number
  /** What it runs as at the provider. */
  incarnation: string
  timeout: number
  networkPolicy: NetworkPolicy
  /** What the sandbox was to be when it began. */
  readonly settings: Settings
  readonly sourceSnapshotId?: string | undefined
  /** How long its end is to take, in ms. */
  slowness?: number
  requestedStopAt?: number
  stoppedAt?: number
  snapshottedAt?: number
  readonly commands: Map<string, KeptCommand>
  /** Done once it takes no more commands: streams end then. */
  readonly closing: Deferred.Deferred<void>
}

/** The address of a port. */
export interface Route {
  readonly url: string
  readonly subdomain: string
  readonly port: number
}

/** A sandbox, by the name its owner gave it. */
export interface KeptSandbox {
  readonly name: string
  readonly owner: Owner
  readonly settings: Settings
  readonly createdAt: number
  updatedAt: number
  statusUpdatedAt: number
  /** What the provider calls it. */
  readonly providerName: SandboxName
  currentSnapshotId?: string | undefined
  /** The snapshot whose files the stopped sandbox has at the provider. */
  filesOf?: string | undefined
  /** The ports that the provider was told of. */
  declared: ReadonlyArray<number>
  session: KeptSession
  readonly sessions: Array<KeptSession>
  routes: ReadonlyArray<Route>
  /** Held by whoever starts or ends a session of it. */
  readonly turn: Semaphore.Semaphore
}

/** The files of a sandbox, kept by the provider. */
export interface KeptSnapshot {
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
  /** How long it is kept after its last use, in ms; 0 for ever. */
  expiration: number
  status: "created" | "deleted"
}

const letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

/** Letters and digits nobody else has. */
export const fresh = (length: number): string =>
  Array.from(randomBytes(length), (byte) => letters[byte % letters.length]).join("")

/** The moment at which a snapshot expires; none if it never does. */
export const expiryOf = (snapshot: KeptSnapshot): number | undefined =>
  snapshot.expiration === 0 ? undefined : (snapshot.lastUsedAt ?? snapshot.createdAt) + snapshot.expiration

/** Whether one can still boot from the snapshot. */
export const isUsable = (snapshot: KeptSnapshot | undefined, now: number): snapshot is KeptSnapshot =>
  snapshot?.status === "created" && now < (expiryOf(snapshot) ?? Infinity)
