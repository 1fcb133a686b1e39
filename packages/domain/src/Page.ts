/** Pages of a list, and the cursors between them. */
import { Schema } from "effect"

const form = /^(\d{1,15})_([A-Za-z0-9_-]{1,180})$/

/** Where a list continues. Opaque to callers; does not expire. */
export const Cursor = Schema.String.check(Schema.isPattern(form)).pipe(Schema.brand("Cursor"))
export type Cursor = typeof Cursor.Type

/** A request for a page. */
export interface Page {
  /** Maximum number of rows, 1 to 100. */
  readonly limit: number
  /** Null for the first page. */
  readonly cursor: Cursor | null
}

/** A page. `next` is null on the last one. */
export interface PageOf<A> {
  readonly rows: ReadonlyArray<A>
  readonly next: Cursor | null
}

/** The sort key of a row: its creation time, then its id, which orders rows of the same millisecond. */
export interface RowPosition {
  /** Epoch milliseconds. */
  readonly at: number
  readonly id: string
}

/** The cursor of the page that begins after a row. */
export const cursorAfter = ({ at, id }: RowPosition): Cursor => Cursor.make(`${at}_${id}`)

/** The position after which a page begins; null for the first page. */
export const positionOf = (cursor: Cursor | null): RowPosition | null => {
  const match = form.exec(cursor ?? "")
  return match === null ? null : { at: Number(match[1]), id: match[2]! }
}
