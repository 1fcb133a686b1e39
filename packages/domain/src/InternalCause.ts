import { Schema, SchemaGetter } from "effect"

/** A field that only this process can read: encoding and decoding drop it. For causes that callers must not see. */
export const InternalCause = Schema.optionalKey(Schema.Unknown).pipe(
  Schema.decodeTo(Schema.optionalKey(Schema.Unknown), { decode: SchemaGetter.omit(), encode: SchemaGetter.omit() })
)
