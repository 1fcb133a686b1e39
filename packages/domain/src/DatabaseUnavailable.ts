/**
 * The database can't be used at the moment; the same request may succeed later. A defect, because no use case can handle
 * it: the HTTP server answers 503.
 */
export class DatabaseUnavailable extends Error {
  readonly _tag = "DatabaseUnavailable"

  /** The cause as a sentence that callers may see; undefined if none is known. */
  readonly reason: string | undefined

  constructor(cause: unknown, reason?: string) {
    super(reason ?? "The database can't be used at the moment; try again", { cause })
    this.reason = reason
  }
}
