import { Schema, SchemaGetter } from "effect"

/** A field the process may read and no encoding carries: what an error knows and its caller must not see. */
export const Withheld = Schema.optionalKey(Schema.Unknown).pipe(
  Schema.decodeTo(Schema.optionalKey(Schema.Unknown), { decode: SchemaGetter.omit(), encode: SchemaGetter.omit() })
)
