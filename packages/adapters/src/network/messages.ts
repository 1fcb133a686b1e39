/** The messages between the server and the egress process. */
import type { Authority } from "./Certificates.ts"
import type { Refusal } from "./Egress.ts"
import type { PolicyInForce } from "./Network.ts"

/** The first message: settings of all sandboxes. */
export interface Configuration {
  readonly hosts: ReadonlyArray<readonly [name: string, urls: ReadonlyArray<string>]>
  /** The authority that signs the certificates of hosts whose requests the gateway reads. */
  readonly authority?: Authority
  /** PEM certificates to trust in addition to those of the system. */
  readonly trusted?: ReadonlyArray<string>
  /** The user that the process switches to; its own user by default. */
  readonly user?: number
}

export type Order =
  | { readonly configure: Configuration }
  /** Starts to serve a network, or replaces its policy. */
  | { readonly network: string; readonly inForce: PolicyInForce }
  /** Hands over a listening socket of a network with the message. Port 53 is the DNS socket. */
  | { readonly network: string; readonly port: number }
  | { readonly network: string; readonly close: true }

/** The bytes sent to and received from a host since the last report. */
export interface Traffic {
  readonly host: string
  readonly sent: number
  readonly received: number
}

export type Report =
  | { readonly ready: true }
  | { readonly network: string; readonly refused: Refusal; readonly times: number }
  | { readonly network: string; readonly traffic: ReadonlyArray<Traffic> }
