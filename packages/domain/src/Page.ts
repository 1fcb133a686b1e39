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
