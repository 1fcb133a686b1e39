import { Context } from "effect"
import type { Account } from "./Account.ts"

/** Who is asking: the account whose key or token came with the request. */
export class CurrentActor extends Context.Service<CurrentActor, Account>()("domain/identity/CurrentActor") {}
