import { Schema, SchemaTransformation } from "effect"

/** How a repository is read: with the service's credential, or without any. */
export const ReadAs = Schema.Literals(["service", "anonymous"])
export type ReadAs = typeof ReadAs.Type

/** Stored rows and image keys spell `anonymous` as `anyone`, as the first versions did. */
export const StoredReadAs = Schema.Literals(["service", "anyone"]).pipe(
  Schema.decodeTo(
    ReadAs,
    SchemaTransformation.transform({
      decode: (stored) => (stored === "anyone" ? "anonymous" : stored),
      encode: (readAs) => (readAs === "anonymous" ? "anyone" : readAs)
    })
  )
)

/** The stored spelling. */
export const encodeReadAs = Schema.encodeSync(StoredReadAs)
