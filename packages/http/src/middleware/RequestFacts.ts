import type { AccountId } from "@castellan/domain/identity/Account.ts"
import { Context } from "effect"

/** What is found out about a request while it is answered, for the line that is written about it. */
export interface Facts {
  account?: AccountId
}

export const RequestFacts = Context.Reference<Facts>("http/RequestFacts", { defaultValue: () => ({}) })
