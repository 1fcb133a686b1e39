/** The output of a run as server-sent events. */
import { OutputPosition } from "@castellan/domain/sandbox/Command.ts"
import { CommandRunOutput } from "@castellan/domain/task/CommandRun.ts"
import type { RunEvent } from "@castellan/domain/task/TaskRuns.ts"
import { type Effect, Schema, Stream } from "effect"
import { RunLogEvent } from "../api/groups/TaskRuns.ts"
import { writerOf } from "../api/StreamEvents.ts"
import * as ServerSent from "./ServerSent.ts"

const isCommandOutput = Schema.is(CommandRunOutput)

const eventId = (position: OutputPosition) => `${position.stdout}.${position.stderr}`

/** The position to resume at after the event of that id; the start if the id is absent or malformed. */
export const positionAfter = (lastEventId: string | undefined): OutputPosition => {
  const match = /^(\d{1,12})\.(\d{1,12})$/.exec(lastEventId ?? "")
  return match === null
    ? OutputPosition.start
    : new OutputPosition({ stdout: Number(match[1]), stderr: Number(match[2]) })
}

const write = writerOf(RunLogEvent)

const writeEvent = (event: RunEvent): string => {
  if (event._tag === "Printed") {
    const { next, stream, text } = event.output
    return write({ event: "output", id: eventId(next), data: { stream, text } })
  }
  const { output, status } = event.run
  const exitCode = isCommandOutput(output) ? output.exitCode : null
  return write({ event: "exit", data: { status, exitCode, truncated: event.truncated } })
}

/** The response. It ends when `lost` fails. */
export const respond = <E>(log: Stream.Stream<RunEvent, E>, lost: Effect.Effect<never, ServerSent.AccessLost>) =>
  ServerSent.respond(Stream.map(log, writeEvent), {
    what: "output of a run",
    resumes: true,
    broken: ServerSent.writeError("The log can't be read any further", "log_broken"),
    lost
  })
