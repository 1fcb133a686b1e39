/** The contract of BaseImageStore: what every store of base images guarantees. */
import type { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { BaseImageStore } from "@castellan/domain/sandbox/BaseImageStore.ts"
import type { Layer } from "effect"
import { type ContractOptions, runContract } from "../contract.ts"
import { builds } from "./builds.ts"
import { snapshots } from "./snapshots.ts"

export const topics = { builds, snapshots }

export type Topic = keyof typeof topics

export const contract = <E>(
  subject: string,
  layer: Layer.Layer<BaseImageStore | IdentityStore, E>,
  options?: ContractOptions<Topic>
) => runContract("BaseImageStore", subject, layer, topics, options)
