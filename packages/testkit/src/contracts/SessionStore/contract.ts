/** The contract of SessionStore: what every store of sessions guarantees. */
import type { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { EventStore } from "@castellan/domain/sandbox/EventStore.ts"
import { SessionStore } from "@castellan/domain/session/SessionStore.ts"
import type { Layer } from "effect"
import { type ContractOptions, runContract } from "../contract.ts"
import { rows } from "./rows.ts"
import { transitions } from "./transitions.ts"
import { schedule } from "./schedule.ts"

export const topics = { rows, transitions, schedule }

export type Topic = keyof typeof topics

export const contract = <E>(
  subject: string,
  layer: Layer.Layer<SessionStore | EventStore | IdentityStore, E>,
  options?: ContractOptions<Topic>
) => runContract("SessionStore", subject, layer, topics, options)
