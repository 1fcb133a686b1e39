/** Responses of server-sent events: their heartbeat, and how they end. */
import type { AccountForbidden } from "@castellan/domain/identity/AccountScope.ts"
import type { InvalidCredential } from "@castellan/domain/identity/Credential.ts"
import { Duration, Effect, Stream } from "effect"
import { Sse } from "effect/encoding"
import { HttpServerResponse } from "effect/http"
import { errorEvent, writerOf } from "../api/StreamEvents.ts"
import { Shutdown } from "../server/Shutdown.ts"

/** How long a stream may be silent before a comment keeps proxies from closing it. */
const heartbeat = "15 seconds"

const writeErrorEvent = writerOf(errorEvent)

/** The event that reports why a stream ends. */
export const writeError = (error: string, code: string): string =>
  writeErrorEvent({ event: "error", data: { error, code } })

/** Why a reader lost its access. */
export type AccessLost = AccountForbidden | InvalidCredential

const defaultAccessLost = ({ _tag }: AccessLost) =>
  _tag === "InvalidCredential"
    ? writeError("Unauthorized", "unauthorized")
    : writeError("Access denied to specified account_id", "access_denied")

/** Tells a reader to reconnect after 1 s, because another server will answer. */
const reconnect = Sse.encoder.write(new Sse.Retry({ duration: Duration.seconds(1), lastEventId: undefined }))

export interface ServerSentOptions {
  /** The name of the stream, for the first comment and the log. */
  readonly what: string
  /** The last event if the source fails. */
  readonly broken: string
  /**
   * Whether a reader can resume after the last id that it received. If so, it is told at shutdown to reconnect at once;
   * otherwise the stream continues until the server closes its connections.
   */
  readonly resumes: boolean
  /** The last event if the reader loses its access; by default an `error` event. */
  readonly accessLost?: (why: AccessLost) => string
  /** Fails once the reader loses its access. */
  readonly lost: Effect.Effect<never, AccessLost>
}

/** The response. It begins with a comment at once, so that the reader knows that it is connected. */
export const respond = <E>(
  events: Stream.Stream<string, E>,
  { accessLost = defaultAccessLost, broken, lost, resumes, what }: ServerSentOptions
) => {
  const untilBroken = Stream.catchCause(events, (cause) =>
    Stream.fromEffect(Effect.as(Effect.annotateLogs(Effect.logError("Stream failed", cause), { stream: what }), broken))
  )
  const atAccessLost = Stream.fromEffect(Effect.catch(lost, (why) => Effect.succeed(accessLost(why))))
  const atShutdown = Stream.fromEffect(
    Effect.flatMap(Shutdown, ({ begun, closing }) =>
      resumes ? Effect.as(begun, reconnect) : Effect.as(closing, broken)
    )
  )
  const heartbeats = Stream.map(Stream.drop(Stream.tick(heartbeat), 1), () => ": still here\n\n")
  return HttpServerResponse.stream(
    Stream.make(`: ${what}\n\n`).pipe(
      Stream.concat(
        untilBroken.pipe(
          Stream.merge(atAccessLost, { haltStrategy: "either" }),
          Stream.merge(atShutdown, { haltStrategy: "either" })
        )
      ),
      Stream.merge(heartbeats, { haltStrategy: "left" }),
      Stream.encodeText
    ),
    {
      contentType: "text/event-stream",
      headers: { "cache-control": "no-cache, no-transform", "x-accel-buffering": "no" }
    }
  )
}
