import { Context } from "effect"
import type { Account } from "./Account.ts"

/** The account that the current request authenticated as. */
export class CurrentActor extends Context.Service<CurrentActor, Account>()("domain/identity/CurrentActor") {}
