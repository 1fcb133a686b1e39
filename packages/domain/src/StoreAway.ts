/**
 * The store can't be asked just now, and may be soon. It is a defect, since no use case can do anything about it; but who
 * asked may be told to ask again.
 */
export class StoreAway extends Error {
  readonly _tag = "StoreAway"

  constructor(cause: unknown) {
    super("The store can't be asked just now", { cause })
  }
}
