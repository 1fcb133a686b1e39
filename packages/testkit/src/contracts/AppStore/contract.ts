/** The contract of AppStore: what every store of apps guarantees. */
import { AppStore } from "@castellan/domain/app/AppStore.ts"
import type { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { EventStore } from "@castellan/domain/sandbox/EventStore.ts"
import type { Layer } from "effect"
import { type ContractOptions, runContract } from "../contract.ts"
import { rows } from "./rows.ts"
import { transitions } from "./transitions.ts"
import { events } from "./events.ts"
import { schedule } from "./schedule.ts"

export const topics = { rows, transitions, events, schedule }

export type Topic = keyof typeof topics

export const contract = <E>(
  subject: string,
  layer: Layer.Layer<AppStore | EventStore | IdentityStore, E>,
  options?: ContractOptions<Topic>
) => runContract("AppStore", subject, layer, topics, options)
