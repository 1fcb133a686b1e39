import { type Effect, Schema, type Stream } from "effect"
import type { PortClosed } from "./SandboxProvider.ts"

/** A TCP port that a program without power may listen on. */
export const Port = Schema.Int.check(Schema.isBetween({ minimum: 1024, maximum: 65_535 })).pipe(Schema.brand("Port"))
export type Port = typeof Port.Type

/** A connection to a port of a sandbox: bytes, both ways. */
export interface PortConnection {
  /** What a request over it has to name as its host. */
  readonly host: string
  /** What comes from the sandbox; ends when the sandbox sends no more, and fails when the connection breaks. */
  readonly incoming: Stream.Stream<Uint8Array, PortClosed>
  /** Sends bytes, no faster than they are taken. */
  readonly send: (bytes: Uint8Array) => Effect.Effect<void, PortClosed>
  /** Says that nothing more is sent; what still comes can be read. */
  readonly end: Effect.Effect<void>
}
