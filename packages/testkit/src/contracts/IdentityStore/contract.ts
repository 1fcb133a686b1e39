/** The contract of IdentityStore: what every store of accounts, API keys and memberships guarantees. */
import { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import type { Layer } from "effect"
import { type ContractOptions, runContract } from "../contract.ts"
import { accounts } from "./accounts.ts"
import { keys } from "./keys.ts"
import { organizations } from "./organizations.ts"
import { members } from "./members.ts"

export const topics = { accounts, keys, organizations, members }

export type Topic = keyof typeof topics

export const contract = <E>(subject: string, layer: Layer.Layer<IdentityStore, E>, options?: ContractOptions<Topic>) =>
  runContract("IdentityStore", subject, layer, topics, options)
