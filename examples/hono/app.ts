/** A Hono app that mounts the API below a path, next to routes of its own. */
import type { Promises } from "castellan/embedding/promises.ts"
import { Hono } from "hono"

/** `authenticate` is the service's own authentication: it returns the visitor's account, if there is one. */
export const createApp = (castellan: Promises, authenticate: (request: Request) => Promise<string | undefined>) => {
  const app = new Hono()

  // The whole API, for clients with an API key: /castellan/api/sandboxes and so on.
  app.mount("/castellan", castellan.handler)

  // The service's own route, which calls a use case.
  app.get("/dashboard", async (context) => {
    const account = await authenticate(context.req.raw)
    if (account === undefined) return context.json({ error: "Sign in first" }, 401)
    const { sandboxes } = await castellan.as(account)
    const { rows } = await sandboxes.list({ limit: 100, cursor: null })
    return context.json({ sandboxes: rows.map(({ name, status }) => ({ name, status })) })
  })

  return app
}
