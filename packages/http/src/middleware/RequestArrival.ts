import { Context } from "effect"

/** When the request that is being answered arrived, in epoch milliseconds. */
export const RequestArrival = Context.Reference<number>("http/RequestArrival", { defaultValue: () => 0 })
