/** What is asked of snapshots. */
import { Clock, Effect } from "effect"
import { json, notFound } from "../wire/Answers.ts"
import * as Bodies from "../wire/Bodies.ts"
import type { KeptSnapshot } from "./Kept.ts"
import * as Lifecycle from "./Lifecycle.ts"
import { paged } from "../wire/Pages.ts"
import type { Asked, Site } from "./Site.ts"

const find = (site: Site, { teamId }: Asked, id: string) => {
  const found = site.snapshots.get(id)
  return found?.owner.teamId === teamId ? Effect.succeed(found) : Effect.fail(notFound("Snapshot"))
}

/** Those of the project that is asked about. */
const own = (site: Site, { query, teamId }: Asked) =>
  [...site.snapshots.values()].filter(
    ({ owner }) => owner.teamId === teamId && owner.projectId === (query.get("project") ?? query.get("projectId") ?? "")
  )

const order = (query: URLSearchParams) => ({
  query,
  by: ({ createdAt }: KeptSnapshot) => createdAt,
  key: ({ id }: KeptSnapshot) => id
})

/** The snapshots of a project, or of one sandbox; those that are deleted too. */
export const list = Effect.fnUntraced(function* (site: Site, asked: Asked) {
  const now = yield* Clock.currentTimeMillis
  const name = asked.query.get("name")
  const wanted = own(site, asked).filter(({ sandboxName }) => name === null || sandboxName === name)
  const { items, pagination } = yield* paged(wanted, order(asked.query))
  return json({ snapshots: items.map((one) => Bodies.snapshot(one, now)), pagination })
})

/** A snapshot by its id. */
export const show = Effect.fnUntraced(function* (site: Site, asked: Asked, id: string) {
  return json({ snapshot: Bodies.snapshot(yield* find(site, asked, id), yield* Clock.currentTimeMillis) })
})

/** Deletes a snapshot. */
export const remove = Effect.fnUntraced(function* (site: Site, asked: Asked, id: string) {
  const snapshot = yield* find(site, asked, id)
  yield* Lifecycle.forget(site, snapshot)
  return json({ snapshot: Bodies.snapshot(snapshot, yield* Clock.currentTimeMillis) })
})

/** What a snapshot comes from, the latest first; or, ascending, what comes from it. It is the anchor itself, not a node. */
export const tree = Effect.fnUntraced(function* (site: Site, asked: Asked) {
  const now = yield* Clock.currentTimeMillis
  const all = own(site, asked)
  const childrenOf = (id: string) => all.filter(({ parentId }) => parentId === id)
  const anchor = yield* find(site, asked, asked.query.get("snapshotId") ?? all.at(-1)?.id ?? "")
  const limit = Math.max(1, Number(asked.query.get("limit") ?? 20))
  const ascends = asked.query.get("sortOrder") === "asc"
  const next = ({ id, parentId }: KeptSnapshot) =>
    ascends ? childrenOf(id)[0] : parentId === undefined ? undefined : site.snapshots.get(parentId)
  const node = (one: KeptSnapshot) => {
    const all = one.parentId === undefined ? [one] : childrenOf(one.parentId)
    const siblings = all.filter(({ id }) => id !== one.id).map((sibling) => Bodies.snapshot(sibling, now))
    return { snapshot: Bodies.snapshot(one, now), siblings, count: String(all.length) }
  }
  const line: Array<KeptSnapshot> = []
  let at = next(anchor)
  for (; at !== undefined && line.length < limit; at = next(at)) line.push(at)
  // Who goes on from the last one is given what follows it.
  const pagination = { count: line.length, next: at === undefined ? null : (line.at(-1)?.id ?? null) }
  return json({ snapshots: line.map(node), anchor: node(anchor), pagination })
})
