/**
 * The store can't be asked just now, and may be soon. It is a defect, since no use case can do anything about it; but who
 * asked may be told to ask again.
 */
export class StoreAway extends Error {
  readonly _tag = "StoreAway"

  /** What stands in the way, as a sentence for the caller; none where nothing more is known. */
  readonly reason: string | undefined

  constructor(cause: unknown, reason?: string) {
    super(reason ?? "The store can't be asked just now", { cause })
    this.reason = reason
  }
}
