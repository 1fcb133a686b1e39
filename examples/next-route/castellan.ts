/** One Castellan instance for all routes of the process, created by the first request. */
import * as web from "castellan/embedding/web.ts"
import { Effect } from "effect"
import { options, ports } from "./setting.ts"

// Kept on `globalThis`: a development server reloads changed modules and must not create a second instance.
const kept = globalThis as { castellan?: Promise<web.WebHandler> }

const castellan = () => (kept.castellan ??= Effect.runPromise(options).then((options) => web.make(ports, options)))

/** Handles a request to the API. */
export const handler = async (request: Request) => (await castellan()).handler(request)

/** Stops the instance, for a process that continues without it. */
export const dispose = async () => (await castellan()).dispose()
