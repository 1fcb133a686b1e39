/** Declares how large the request body of an operation may be. */
import { Context } from "effect"

/** The largest request body of an operation, in bytes. 1 MiB unless the endpoint is annotated with another limit. */
export const BodyLimit = Context.Reference<number>("http/api/BodyLimit", { defaultValue: () => 1024 * 1024 })
