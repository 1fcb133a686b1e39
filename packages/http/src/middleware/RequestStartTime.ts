/** The time at which the current request arrived. */
import { Context } from "effect"

/** In epoch milliseconds; 0 outside a request. */
export const RequestStartTime = Context.Reference<number>("http/RequestStartTime", { defaultValue: () => 0 })
