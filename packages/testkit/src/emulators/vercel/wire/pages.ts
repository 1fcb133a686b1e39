/** Pages of lists. */
import { Effect } from "effect"
import { badRequest, type ApiError } from "./responses.ts"

/** A page of a list with the cursor of the next. */
export interface PageOf<A> {
  readonly items: ReadonlyArray<A>
  readonly pagination: { readonly count: number; readonly next: string | null }
}

/** The order of a list. */
export interface Order<A> {
  readonly query: URLSearchParams
  /** The primary sort key. */
  readonly by: (one: A) => number | string
  /** A unique key, the secondary sort key. */
  readonly key: (one: A) => string
}

type Place = readonly [number | string, string]

const isBefore = ([a, keyA]: Place, [b, keyB]: Place) => (a === b ? keyA < keyB : a < b)

const most = 50
const usual = 20

const placeOf = (cursor: string): Place | undefined => {
  try {
    const value: unknown = JSON.parse(Buffer.from(cursor, "base64url").toString())
    return Array.isArray(value) && value.length === 2 ? (value as unknown as Place) : undefined
  } catch {
    return undefined
  }
}

/** The page for the query's `limit`, `cursor` and `sortOrder`, in descending order by default. */
export const paginate = <A>(all: Iterable<A>, { by, key, query }: Order<A>): Effect.Effect<PageOf<A>, ApiError> => {
  const limit = Number(query.get("limit") ?? usual)
  if (!Number.isInteger(limit) || limit < 1 || limit > most) {
    return Effect.fail(badRequest(`Invalid limit: it should be between 1 and ${most}.`))
  }
  const place = (one: A): Place => [by(one), key(one)]
  const ascends = query.get("sortOrder") === "asc"
  const cursor = query.get("cursor")
  const after = cursor === null ? null : placeOf(cursor)
  if (after === undefined) return Effect.fail(badRequest("Invalid cursor."))
  const follows = (a: Place, b: Place) => (ascends ? isBefore(b, a) : isBefore(a, b))
  const left = [...all]
    .filter((one) => after === null || follows(place(one), after))
    .sort((a, b) => (follows(place(a), place(b)) ? 1 : -1))
  const items = left.slice(0, limit)
  const last = items.at(-1)
  const next =
    left.length > limit && last !== undefined ? Buffer.from(JSON.stringify(place(last))).toString("base64url") : null
  return Effect.succeed({ items, pagination: { count: items.length, next } })
}
