/** The messages between the server and the spawner process. */
import type { Hardening } from "./hardening.ts"
import type { Program, ProgramResult, WaitFor } from "./Spawn.ts"

/** Starts a program and reports once the wait is over. */
export interface StartRequest {
  readonly id: number
  readonly program: Program
  readonly until: WaitFor
}

/** A stream of a program whose other end the server holds; `extra` is descriptor 3, which the program reads. */
export type Pipe = "stdin" | "stdout" | "stderr" | "extra"

/** The pipes by descriptor. */
export const pipes: ReadonlyArray<Pipe> = ["stdin", "stdout", "stderr", "extra"]

/** Starts a program whose streams are connected to a socket that the server listens on. */
export interface ConnectedStartRequest {
  readonly id: number
  readonly program: Program
  readonly pipes: ReadonlyArray<Pipe>
  /** The address of the socket. */
  readonly socket: string
  /** A secret. Each connection begins with it, followed by the index of its pipe in `pipes`. */
  readonly token: string
}

/** Kills a program and its process group. */
export interface KillRequest {
  readonly id: number
  readonly kill: true
}

export type SpawnerReport =
  | { readonly id: number; readonly ended: ProgramResult }
  /** The program of a `ConnectedStartRequest` runs. From now on the server may write to it. */
  | { readonly id: number; readonly spawned: true }

/** The first message of the spawner process. */
export interface SpawnerReady {
  readonly hardening: Hardening
}
