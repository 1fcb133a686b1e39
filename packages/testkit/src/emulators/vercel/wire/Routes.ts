/** Which request is answered by what. */
import { Effect } from "effect"
import { type Answer, notFound, type Refused, type Streamed } from "./Answers.ts"
import * as Commands from "../state/Commands.ts"
import * as Files from "../state/Files.ts"
import type { KeptSession } from "../state/Kept.ts"
import * as Sandboxes from "../state/Sandboxes.ts"
import * as Sessions from "../state/Sessions.ts"
import { type Asked, sessionOf, type Site } from "../state/Site.ts"
import * as Snapshots from "../state/Snapshots.ts"

type Answered = Effect.Effect<Answer | Streamed, Refused>
type Route = (site: Site, asked: Asked, ...parts: ReadonlyArray<string>) => Answered

/** A route below a session; the last part is the id of a command, where there is one. */
const ofSession =
  (then: (site: Site, session: KeptSession, asked: Asked, id: string) => Answered | Answer | Streamed): Route =>
  (site, asked, sid = "", id = "") =>
    Effect.flatMap(sessionOf(site, asked, sid), (session) => {
      const answer = then(site, session, asked, id)
      return Effect.isEffect(answer) ? answer : Effect.succeed(answer)
    })

/** By method and path below `/v2/sandboxes`; `:` stands for a part that is given on. What is said first is tried first. */
const routes: ReadonlyArray<readonly [string, string, Route]> = [
  ["POST", "", Sandboxes.create],
  ["GET", "", Sandboxes.list],
  ["GET", "/sessions", Sessions.list],
  ["GET", "/sessions/:", ofSession(Sessions.show)],
  ["POST", "/sessions/:/cmd", ofSession(Commands.start)],
  ["GET", "/sessions/:/cmd", ofSession(Commands.list)],
  ["GET", "/sessions/:/cmd/:", ofSession(Commands.show)],
  ["GET", "/sessions/:/cmd/:/logs", ofSession((site, session, _, id) => Commands.logs(site, session, id))],
  ["POST", "/sessions/:/cmd/:/kill", ofSession(Commands.kill)],
  ["POST", "/sessions/:/fs/mkdir", ofSession(Files.mkdir)],
  ["POST", "/sessions/:/fs/write", ofSession(Files.write)],
  ["POST", "/sessions/:/fs/read", ofSession(Files.read)],
  ["POST", "/sessions/:/stop", ofSession(Sessions.stop)],
  ["POST", "/sessions/:/snapshot", ofSession(Sessions.snapshot)],
  ["POST", "/sessions/:/extend-timeout", ofSession(Sessions.extend)],
  ["POST", "/sessions/:/network-policy", ofSession(Sessions.networkPolicy)],
  ["POST", "/sessions/:/interactive", ofSession(Sessions.interactive)],
  ["GET", "/snapshots", Snapshots.list],
  ["GET", "/snapshots/tree", Snapshots.tree],
  ["GET", "/snapshots/:", (site, asked, id = "") => Snapshots.show(site, asked, id)],
  ["DELETE", "/snapshots/:", (site, asked, id = "") => Snapshots.remove(site, asked, id)],
  ["GET", "/:", (site, asked, name = "") => Sandboxes.get(site, asked, name)],
  ["PATCH", "/:", (site, asked, name = "") => Sandboxes.update(site, asked, name)],
  ["DELETE", "/:", (site, asked, name = "") => Sandboxes.remove(site, asked, name)],
  ["POST", "/:/fork", (site, asked, name = "") => Sandboxes.fork(site, asked, name)]
]

const compiled = routes.map(
  ([method, path, route]) => [method, new RegExp(`^${path.replaceAll(":", "([^/]+)")}$`), route] as const
)

/** Whether the request begins a session's first command. */
export const isFirstCommand = (site: Site, method: string, path: string): boolean => {
  const [, id] = /^\/v\d+\/sandboxes\/sessions\/([^/]+)\/cmd$/.exec(path) ?? []
  return method === "POST" && id !== undefined && site.sessions.get(id)?.commands.size === 0
}

/** The session that a path is about. */
export const sessionIn = (site: Site, path: string): KeptSession | undefined =>
  site.sessions.get(/^\/v\d+\/sandboxes\/sessions\/([^/]+)/.exec(path)?.[1] ?? "")

/** What Vercel answers to a path without its `/api`. */
export const answer = (site: Site, path: string, asked: Asked): Answered => {
  const [, below] = /^\/v\d+\/sandboxes(.*)$/.exec(path) ?? []
  if (below === undefined) return Effect.fail(notFound("Endpoint"))
  for (const [method, pattern, route] of compiled) {
    const [found, ...parts] = (method === asked.method && pattern.exec(below)) || []
    if (found !== undefined) return route(site, asked, ...parts.map((part) => decodeURIComponent(part)))
  }
  return Effect.fail(notFound("Endpoint"))
}
