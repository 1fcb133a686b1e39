import { Schema } from "effect"

/** Where a list goes on: opaque to callers, and good for as long as the list exists. */
export const Cursor = Schema.String.check(Schema.isPattern(/^[A-Za-z0-9_-]{1,200}$/)).pipe(Schema.brand("Cursor"))
export type Cursor = typeof Cursor.Type

/** A piece of a list. */
export interface Page {
  /** Rows at most; 1 to 100. */
  readonly limit: number
  /** Where to go on; null for the beginning. A cursor that no list gave is taken for the beginning. */
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

/** The row a cursor goes on after; null for the beginning. */
export const placeOf = (cursor: Cursor | null): Place | null => {
  const match = /^(\d{1,15})_(.+)$/.exec(cursor ?? "")
  return match === null ? null : { at: Number(match[1]), id: match[2]! }
}
