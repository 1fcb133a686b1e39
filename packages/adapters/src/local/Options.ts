/** What may be chosen of the local provider. */
import type { Duration } from "effect"
import type { Isolation } from "./isolation/Isolation.ts"
import type { Network } from "./isolation/Namespaces.ts"
import type { Limits } from "./sandbox/Watchdog.ts"

export interface LocalOptions {
  /** The directory for everything the provider keeps. */
  readonly directory: string
  readonly isolation?: Isolation["kind"]
  readonly network?: Network
  /** The URL of the registry of packages; what npm on this machine uses if left out. */
  readonly registry?: string
  /** Bytes of each output stream that are kept. */
  readonly outputKept?: number
  readonly limits?: Partial<Limits>
  /** How long a program inside may be silent while it answers for a file; 30 seconds if not said. */
  readonly silence?: Duration.Duration
}
