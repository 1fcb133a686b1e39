/** A Hono app that has the API below a path, and routes of its own beside it. */
import type { Promises } from "castellan/embedding/promises.ts"
import { Hono } from "hono"

/** `whoAsks` is the service's own authentication: the account that it knows the visitor by. */
export const appOver = (castellan: Promises, whoAsks: (request: Request) => Promise<string | undefined>) => {
  const app = new Hono()

  // For those who have an API key: all of the API, as /castellan/api/sandboxes and so on.
  app.mount("/castellan", castellan.handler)

  // For the service's own visitors: what it makes of the use cases.
  app.get("/dashboard", async (context) => {
    const account = await whoAsks(context.req.raw)
    if (account === undefined) return context.json({ error: "Who are you?" }, 401)
    const { sandboxes } = await castellan.as(account)
    const { rows } = await sandboxes.list({ limit: 100, cursor: null })
    return context.json({ sandboxes: rows.map(({ name, status }) => ({ name, status })) })
  })

  return app
}
