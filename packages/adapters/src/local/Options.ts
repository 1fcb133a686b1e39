/** The options of the local provider. */
import type { NetworkPolicy } from "@castellan/domain/network/NetworkPolicy.ts"
import type { Duration } from "effect"
import type { EgressHosts } from "../network/Dialer.ts"
import type { Isolation } from "./isolation/Isolation.ts"
import type { Limits } from "./sandbox/Watchdog.ts"

export interface LocalOptions {
  /** The directory of everything that the provider stores. */
  readonly directory: string
  /** `namespaces` by default. */
  readonly isolation?: Isolation["kind"]
  /** The network of sandboxes whose `SandboxSpec` has none; `none` by default. */
  readonly network?: NetworkPolicy
  /** Hosts that sandboxes reach at another address, which may be private. */
  readonly egressHosts?: EgressHosts
  /** Certificates in PEM that the gateway trusts besides those of the host. */
  readonly egressTrusted?: ReadonlyArray<string>
  /** The URL of the package registry; by default the one that npm on this host is configured to use. */
  readonly registry?: string
  /** Bytes of each output stream of a command that are kept; 128 MiB by default, rounded down to a multiple of 512. */
  readonly outputKept?: number
  readonly limits?: Partial<Limits>
  /** How long a program inside may print nothing while it reads, writes or lists files; 30 seconds by default. */
  readonly silence?: Duration.Duration
}
