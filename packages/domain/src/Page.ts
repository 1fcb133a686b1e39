import { Schema } from "effect"

const form = /^(\d{1,15})_([A-Za-z0-9_-]{1,180})$/

/** The place where a list continues: opaque to callers, and valid as long as the list exists. */
export const Cursor = Schema.String.check(Schema.isPattern(form)).pipe(Schema.brand("Cursor"))
export type Cursor = typeof Cursor.Type

/** A piece of a list. */
export interface Page {
  /** Rows at most; 1 to 100. */
  readonly limit: number
  /** Where to continue; null for the beginning. */
  readonly cursor: Cursor | null
}

/** The rows of a page, and where the next one begins; null after the last. */
export interface PageOf<A> {
  readonly rows: ReadonlyArray<A>
  readonly next: Cursor | null
}

/** What a list is ordered by: when a row was made, then its id, so that rows of one millisecond have an order too. */
export interface Place {
  /** Epoch milliseconds. */
  readonly at: number
  readonly id: string
}

/** The cursor that goes on after a row. */
export const cursorAfter = ({ at, id }: Place): Cursor => Cursor.make(`${at}_${id}`)

/** The row that a cursor continues after; null for the beginning. */
export const placeOf = (cursor: Cursor | null): Place | null => {
  const match = form.exec(cursor ?? "")
  return match === null ? null : { at: Number(match[1]), id: match[2]! }
}
