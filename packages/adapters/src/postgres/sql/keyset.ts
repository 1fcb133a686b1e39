/** Keyset pagination by creation time and id, newest first. */
import { cursorAfter, type Page, type PageOf, type RowPosition, positionOf } from "@castellan/domain/Page.ts"
import { type RawBuilder, sql } from "kysely"

/** The latest time that both drivers encode for Postgres. A forged cursor may contain a later one. */
const latestTime = Date.UTC(9999, 11, 31)

/** The condition for rows after a page's cursor, newest first; true on the first page. */
export const after = (page: Page, id: string): RawBuilder<boolean> => {
  const place = positionOf(page.cursor)
  return place === null
    ? sql<boolean>`true`
    : sql<boolean>`(created_at, ${sql.ref(id)}) < (${new Date(Math.min(place.at, latestTime))}, ${place.id})`
}

/** The page of at most `limit` rows, from a query for one row more. */
export const toPage = <A>(rows: ReadonlyArray<A>, page: Page, place: (row: A) => RowPosition): PageOf<A> => {
  const kept = rows.slice(0, page.limit)
  const last = kept.at(-1)
  return { rows: kept, next: rows.length > page.limit && last !== undefined ? cursorAfter(place(last)) : null }
}
