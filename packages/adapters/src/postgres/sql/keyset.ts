import { cursorAfter, type Page, type PageOf, type RowPosition, positionOf } from "@castellan/domain/Page.ts"
import { type RawBuilder, sql } from "kysely"

/** The last moment that both drivers write so that Postgres reads it; a made-up cursor may name a later one. */
const lastMoment = Date.UTC(9999, 11, 31)

/** The condition for rows after a page's cursor, newest first; true at the beginning. */
export const after = (page: Page, id: string): RawBuilder<boolean> => {
  const place = positionOf(page.cursor)
  return place === null
    ? sql<boolean>`true`
    : sql<boolean>`(created_at, ${sql.ref(id)}) < (${new Date(Math.min(place.at, lastMoment))}, ${place.id})`
}

/** The page out of one row more than it may have. */
export const toPage = <A>(rows: ReadonlyArray<A>, page: Page, place: (row: A) => RowPosition): PageOf<A> => {
  const taken = rows.slice(0, page.limit)
  const last = taken.at(-1)
  return { rows: taken, next: rows.length > page.limit && last !== undefined ? cursorAfter(place(last)) : null }
}
