/** The contract of EnvironmentStore: what every store of environments and snapshot records guarantees. */
import { EnvironmentStore } from "@castellan/domain/account/EnvironmentStore.ts"
import type { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import type { Layer } from "effect"
import { type ContractOptions, runContract } from "../contract.ts"
import { environments } from "./environments.ts"
import { snapshots } from "./snapshots.ts"

export const topics = { environments, snapshots }

export type Topic = keyof typeof topics

export const contract = <E>(
  subject: string,
  layer: Layer.Layer<EnvironmentStore | IdentityStore, E>,
  options?: ContractOptions<Topic>
) => runContract("EnvironmentStore", subject, layer, topics, options)
