/** What the server and the egress process say to each other. */
import type { Authority } from "./Certificates.ts"
import type { Refusal } from "./Egress.ts"
import type { PolicyInForce } from "./Network.ts"

/** The first order: what holds for all sandboxes. */
export interface Configuration {
  readonly hosts: ReadonlyArray<readonly [name: string, urls: ReadonlyArray<string>]>
  /** The authority that signs certificates for hosts whose requests a policy looks at. */
  readonly authority?: Authority
  /** Certificates in PEM that are trusted besides those of the system. */
  readonly trusted?: ReadonlyArray<string>
  /** The user that the process becomes; undefined to stay what it is. */
  readonly user?: number
}

export type Order =
  | { readonly configure: Configuration }
  /** Begins to serve a network, or changes its policy. */
  | { readonly network: string; readonly inForce: PolicyInForce }
  /** Takes a listening socket of a network, which comes with the message; port 53 is the one for names. */
  | { readonly network: string; readonly port: number }
  | { readonly network: string; readonly close: true }

/** The bytes that were carried to and from a host since the last report. */
export interface Traffic {
  readonly host: string
  readonly sent: number
  readonly received: number
}

export type Report =
  | { readonly ready: true }
  | { readonly network: string; readonly refused: Refusal; readonly times: number }
  | { readonly network: string; readonly traffic: ReadonlyArray<Traffic> }
