/** Declares the server-sent events of an endpoint, and encodes them. */
import { Schema } from "effect"
import { Sse } from "effect/encoding"
import { field } from "./Fields.ts"

/** An event with a name and JSON data. `id` is what a reader resumes after; only events of resumable streams have one. */
export const event = <const Name extends string, Data extends Schema.Constraint>(name: Name, data: Data) =>
  Schema.Struct({
    event: Schema.Literal(name).annotate({ description: `The name of the event: \`${name}\`.` }),
    id: Schema.optional(Schema.String.annotate({ description: "The id to resume after, for `Last-Event-ID`." })),
    data: field(Schema.fromJsonString(data), "The data, as JSON.")
  })

/** An event without data. Browsers don't dispatch it, but keep its id. */
export const emptyEvent = <const Name extends string>(name: Name) =>
  Schema.Struct({
    event: Schema.Literal(name).annotate({ description: `The name of the event: \`${name}\`.` }),
    id: Schema.optional(Schema.String.annotate({ description: "The id to resume after, for `Last-Event-ID`." })),
    data: Schema.Literal("").annotate({ description: "Empty." })
  })

/** The last event of a stream that can't continue. */
export const errorEvent = event(
  "error",
  Schema.Struct({
    error: Schema.String.annotate({ description: "Why the stream ends, as one sentence." }),
    code: Schema.String.annotate({ description: "The same as a code for programs." })
  })
)

interface EncodedEvent {
  readonly event: string
  readonly id?: string | undefined
  readonly data: string
}

/** The text of an event. Effect's encoder writes `data:` also for empty data, and browsers would dispatch such an event. */
const write = ({ data, event, id }: EncodedEvent): string =>
  data === ""
    ? `${id === undefined ? "" : `id: ${id}\n`}event: ${event}\n\n`
    : Sse.encoder.write({ _tag: "Event", event, id, data })

/** Encodes events of the declared schema as text. */
export const writerOf = <A>(events: Schema.Codec<A, EncodedEvent>) => {
  const encode = Schema.encodeSync(events)
  return (event: A): string => write(encode(event))
}

/** Encodes events without a name as text. */
export const unnamedWriterOf = <A>(events: Schema.Codec<A, { readonly data: string }>) => {
  const encode = Schema.encodeSync(events)
  return (event: A): string => write({ event: "message", ...encode(event) })
}
