/** The log of a run as server-sent events. */
import { OutputPosition } from "@castellan/domain/sandbox/Command.ts"
import { CommandRunOutput } from "@castellan/domain/task/CommandRun.ts"
import type { RunEvent } from "@castellan/domain/task/TaskRuns.ts"
import { Effect, Schema, Stream } from "effect"
import { HttpServerResponse } from "effect/http"

/** Milliseconds between two comments that keep proxies from closing a quiet stream. */
const heartbeat = "15 seconds"

const isCommandOutput = Schema.is(CommandRunOutput)

const eventId = (position: OutputPosition) => `${position.stdout}.${position.stderr}`

/** Where to go on after the event of that id; the beginning where there is none, or where no log of ours gave it. */
export const positionAfter = (lastEventId: string | undefined): OutputPosition => {
  const match = /^(\d{1,12})\.(\d{1,12})$/.exec(lastEventId ?? "")
  return match === null
    ? OutputPosition.start
    : new OutputPosition({ stdout: Number(match[1]), stderr: Number(match[2]) })
}

const write = (event: string, data: unknown, id?: string) =>
  `${id === undefined ? "" : `id: ${id}\n`}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`

const writeEvent = (event: RunEvent): string => {
  if (event._tag === "Printed") {
    const { next, stream, text } = event.output
    return write("output", { stream, text }, eventId(next))
  }
  const { output, status } = event.run
  return write("exit", { status, exitCode: isCommandOutput(output) ? output.exitCode : null })
}

const accessLost = write("error", { error: "Access denied to specified account_id", code: "access_denied" })

/**
 * The answer that carries the log. It begins at once, so that a reader knows that it is listening, and breaks off when
 * `lost` completes.
 */
export const respond = <E>(log: Stream.Stream<RunEvent, E>, lost: Effect.Effect<void>) =>
  HttpServerResponse.stream(
    Stream.make(": the log of a run\n\n").pipe(
      Stream.concat(
        Stream.map(log, writeEvent).pipe(
          Stream.catchCause((cause) =>
            Stream.fromEffect(
              Effect.as(
                Effect.logError("a log broke off", cause),
                write("error", { error: "The log can't be read any further", code: "log_broken" })
              )
            )
          ),
          Stream.merge(Stream.fromEffect(Effect.as(lost, accessLost)), { haltStrategy: "either" })
        )
      ),
      Stream.merge(
        Stream.map(Stream.drop(Stream.tick(heartbeat), 1), () => ": still here\n\n"),
        {
          haltStrategy: "left"
        }
      ),
      Stream.encodeText
    ),
    {
      contentType: "text/event-stream",
      headers: { "cache-control": "no-cache, no-transform", "x-accel-buffering": "no" }
    }
  )
