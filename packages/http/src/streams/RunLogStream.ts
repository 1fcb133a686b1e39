/** The log of a run as server-sent events. */
import { OutputPosition } from "@castellan/domain/sandbox/Command.ts"
import { CommandRunOutput } from "@castellan/domain/task/CommandRun.ts"
import type { RunEvent } from "@castellan/domain/task/TaskRuns.ts"
import { type Effect, Schema, Stream } from "effect"
import * as ServerSent from "./ServerSent.ts"

const isCommandOutput = Schema.is(CommandRunOutput)

const eventId = (position: OutputPosition) => `${position.stdout}.${position.stderr}`

/** Where to go on after the event of that id; the beginning where there is none, or where no log of ours gave it. */
export const positionAfter = (lastEventId: string | undefined): OutputPosition => {
  const match = /^(\d{1,12})\.(\d{1,12})$/.exec(lastEventId ?? "")
  return match === null
    ? OutputPosition.start
    : new OutputPosition({ stdout: Number(match[1]), stderr: Number(match[2]) })
}

const writeEvent = (event: RunEvent): string => {
  if (event._tag === "Printed") {
    const { next, stream, text } = event.output
    return ServerSent.write("output", { stream, text }, eventId(next))
  }
  const { output, status } = event.run
  const exitCode = isCommandOutput(output) ? output.exitCode : null
  return ServerSent.write("exit", { status, exitCode, truncated: event.truncated })
}

/** The answer that carries the log; it breaks off when `lost` fails. */
export const respond = <E>(log: Stream.Stream<RunEvent, E>, lost: Effect.Effect<never, ServerSent.AccessLost>) =>
  ServerSent.respond(Stream.map(log, writeEvent), {
    what: "the log of a run",
    resumes: true,
    broken: ServerSent.writeError("The log can't be read any further", "log_broken"),
    lost
  })
