/** One Castellan for all routes of the process, made when the first request comes. */
import * as web from "castellan/embedding/web.ts"
import { Effect } from "effect"
import { options, ports } from "./setting.ts"

// A development server loads modules again when they change, and must not begin a second one.
const kept = globalThis as { castellan?: Promise<web.WebHandler> }

const castellan = () => (kept.castellan ??= Effect.runPromise(options).then((options) => web.make(ports, options)))

/** Answers a request of the API. */
export const handler = async (request: Request) => (await castellan()).handler(request)

/** Ends it, where the process goes on without it. */
export const dispose = async () => (await castellan()).dispose()
