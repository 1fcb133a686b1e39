import { type Effect, Schema, type Stream } from "effect"
import type { PortClosed } from "./SandboxProvider.ts"

/** A TCP port that an unprivileged program may listen on. */
export const Port = Schema.Int.check(Schema.isBetween({ minimum: 1024, maximum: 65_535 })).pipe(Schema.brand("Port"))
export type Port = typeof Port.Type

/** A bidirectional byte stream to a port of a sandbox. */
export interface PortConnection {
  /** The `Host` header that requests over it must have. */
  readonly host: string
  /** Bytes from the sandbox. Ends when the sandbox closes its side, and fails when the connection breaks. */
  readonly incoming: Stream.Stream<Uint8Array, PortClosed>
  /** Sends bytes, with backpressure. */
  readonly send: (bytes: Uint8Array) => Effect.Effect<void, PortClosed>
  /** Closes the sending side. `incoming` can still be read. */
  readonly end: Effect.Effect<void>
}
