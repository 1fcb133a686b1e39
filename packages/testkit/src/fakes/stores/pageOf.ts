import { cursorAfter, type Page, type PageOf, type RowPosition, positionOf } from "@castellan/domain/Page.ts"

const isBefore = (a: RowPosition, b: RowPosition) => a.at < b.at || (a.at === b.at && a.id < b.id)

/** The page of rows in memory, newest first. */
export const pageOf = <A>(rows: Iterable<A>, page: Page, place: (row: A) => RowPosition): PageOf<A> => {
  const after = positionOf(page.cursor)
  const rest = [...rows]
    .filter((row) => after === null || isBefore(place(row), after))
    .sort((a, b) => (isBefore(place(a), place(b)) ? 1 : -1))
  const taken = rest.slice(0, page.limit)
  const last = taken.at(-1)
  return { rows: taken, next: last === undefined || rest.length === taken.length ? null : cursorAfter(place(last)) }
}
