/** The contract of AccountStore: what every store of rows of accounts' sandboxes guarantees. */
import { AccountStore } from "@castellan/domain/account/AccountStore.ts"
import type { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { EventStore } from "@castellan/domain/sandbox/EventStore.ts"
import type { Layer } from "effect"
import { type ContractOptions, runContract } from "../contract.ts"
import { rows } from "./rows.ts"
import { quota } from "./quota.ts"
import { observation } from "./observation.ts"
import { housekeeping } from "./housekeeping.ts"
import { events } from "./events.ts"
import { totals } from "./totals.ts"

export const topics = { rows, quota, observation, housekeeping, events, totals }

export type Topic = keyof typeof topics

export const contract = <E>(
  subject: string,
  layer: Layer.Layer<AccountStore | EventStore | IdentityStore, E>,
  options?: ContractOptions<Topic>
) => runContract("AccountStore", subject, layer, topics, options)
