/** Handles the routes of snapshots. */
import { Clock, Effect } from "effect"
import { json, notFound } from "../wire/responses.ts"
import * as serializers from "../wire/serializers.ts"
import type { SnapshotModel } from "./models.ts"
import * as Lifecycle from "./Lifecycle.ts"
import { paginate } from "../wire/pages.ts"
import type { EmulatorRequest, EmulatorState } from "./EmulatorState.ts"

const find = (state: EmulatorState, { teamId }: EmulatorRequest, id: string) => {
  const found = state.snapshots.get(id)
  return found?.owner.teamId === teamId ? Effect.succeed(found) : Effect.fail(notFound("Snapshot"))
}

/** The snapshots of the request's project. */
const own = (state: EmulatorState, { query, teamId }: EmulatorRequest) =>
  [...state.snapshots.values()].filter(
    ({ owner }) => owner.teamId === teamId && owner.projectId === (query.get("project") ?? query.get("projectId") ?? "")
  )

const order = (query: URLSearchParams) => ({
  query,
  by: ({ createdAt }: SnapshotModel) => createdAt,
  key: ({ id }: SnapshotModel) => id
})

/** Lists the snapshots of a project or of one sandbox, deleted ones included. */
export const list = Effect.fnUntraced(function* (state: EmulatorState, request: EmulatorRequest) {
  const now = yield* Clock.currentTimeMillis
  const name = request.query.get("name")
  const selected = own(state, request).filter(({ sandboxName }) => name === null || sandboxName === name)
  const { items, pagination } = yield* paginate(selected, order(request.query))
  return json({ snapshots: items.map((one) => serializers.snapshot(one, now)), pagination })
})

/** Returns a snapshot. */
export const show = Effect.fnUntraced(function* (state: EmulatorState, request: EmulatorRequest, id: string) {
  return json({ snapshot: serializers.snapshot(yield* find(state, request, id), yield* Clock.currentTimeMillis) })
})

/** Deletes a snapshot. */
export const remove = Effect.fnUntraced(function* (state: EmulatorState, request: EmulatorRequest, id: string) {
  const snapshot = yield* find(state, request, id)
  yield* Lifecycle.deleteSnapshot(state, snapshot)
  return json({ snapshot: serializers.snapshot(snapshot, yield* Clock.currentTimeMillis) })
})

/** Lists the ancestors of a snapshot, nearest first, or its descendants if ascending. The snapshot itself is the anchor, not a node. */
export const tree = Effect.fnUntraced(function* (state: EmulatorState, request: EmulatorRequest) {
  const now = yield* Clock.currentTimeMillis
  const all = own(state, request)
  const childrenOf = (id: string) => all.filter(({ parentId }) => parentId === id)
  const anchor = yield* find(state, request, request.query.get("snapshotId") ?? all.at(-1)?.id ?? "")
  const limit = Math.max(1, Number(request.query.get("limit") ?? 20))
  const ascends = request.query.get("sortOrder") === "asc"
  const next = ({ id, parentId }: SnapshotModel) =>
    ascends ? childrenOf(id)[0] : parentId === undefined ? undefined : state.snapshots.get(parentId)
  const node = (one: SnapshotModel) => {
    const all = one.parentId === undefined ? [one] : childrenOf(one.parentId)
    const siblings = all.filter(({ id }) => id !== one.id).map((sibling) => serializers.snapshot(sibling, now))
    return { snapshot: serializers.snapshot(one, now), siblings, count: String(all.length) }
  }
  const line: Array<SnapshotModel> = []
  let at = next(anchor)
  for (; at !== undefined && line.length < limit; at = next(at)) line.push(at)
  // The cursor is the last snapshot of the page.
  const pagination = { count: line.length, next: at === undefined ? null : (line.at(-1)?.id ?? null) }
  return json({ snapshots: line.map(node), anchor: node(anchor), pagination })
})
