/** Answers that go on: server-sent events, with what keeps them alive and what ends them. */
import type { AccountForbidden } from "@castellan/domain/identity/AccountScope.ts"
import type { InvalidCredential } from "@castellan/domain/identity/Credential.ts"
import { Effect, Stream } from "effect"
import { HttpServerResponse } from "effect/http"
import { Shutdown } from "../server/Shutdown.ts"

/** How long a stream may be quiet before a comment keeps proxies from closing it. */
const heartbeat = "15 seconds"

/** An event as it stands on the wire. */
export const write = (event: string, data: unknown, id?: string): string =>
  `${id === undefined ? "" : `id: ${id}\n`}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`

/** An event without a name, for readers who look at its data alone. */
export const writeUnnamed = (data: unknown): string => `data: ${JSON.stringify(data)}\n\n`

/** An event with a name and no data, which browsers don't show; they keep its id. */
export const writeEmpty = (event: string, id?: string): string =>
  `${id === undefined ? "" : `id: ${id}\n`}event: ${event}\n\n`

/** An event that says what went wrong. */
export const writeError = (error: string, code: string): string => write("error", { error, code })

/** Why a reader may not read any further. */
export type AccessLost = AccountForbidden | InvalidCredential

const usualAccessLost = ({ _tag }: AccessLost) =>
  _tag === "InvalidCredential"
    ? writeError("Unauthorized", "unauthorized")
    : writeError("Access denied to specified account_id", "access_denied")

/** What a reader is told when the server ends: there will be another, so come again after so many milliseconds. */
const comeAgain = "retry: 1000\n\n"

export interface ServerSentOptions {
  /** What is streamed, in a word or two. */
  readonly what: string
  /** The event where it can't be read any further. */
  readonly broken: string
  /** Whether a reader that comes again with the last id it had misses nothing; if not, it is told all there is time for. */
  readonly resumes: boolean
  /** The event where the reader may not read any further, if it is not the usual one. */
  readonly accessLost?: (why: AccessLost) => string
  /** Fails when the reader may no longer read. */
  readonly lost: Effect.Effect<never, AccessLost>
}

/** The answer that carries events. It begins at once, so that a reader knows that it is listening. */
export const respond = <E>(
  events: Stream.Stream<string, E>,
  { accessLost = usualAccessLost, broken, lost, resumes, what }: ServerSentOptions
) =>
  HttpServerResponse.stream(
    Stream.make(`: ${what}\n\n`).pipe(
      Stream.concat(
        events.pipe(
          Stream.catchCause((cause) =>
            Stream.fromEffect(Effect.as(Effect.logError(`${what} broke off`, cause), broken))
          ),
          Stream.merge(Stream.fromEffect(Effect.catch(lost, (why) => Effect.succeed(accessLost(why)))), {
            haltStrategy: "either"
          }),
          Stream.merge(
            Stream.fromEffect(
              Effect.flatMap(Shutdown, ({ begun, closing }) =>
                resumes ? Effect.as(begun, comeAgain) : Effect.as(closing, broken)
              )
            ),
            { haltStrategy: "either" }
          )
        )
      ),
      Stream.merge(
        Stream.map(Stream.drop(Stream.tick(heartbeat), 1), () => ": still here\n\n"),
        { haltStrategy: "left" }
      ),
      Stream.encodeText
    ),
    {
      contentType: "text/event-stream",
      headers: { "cache-control": "no-cache, no-transform", "x-accel-buffering": "no" }
    }
  )
