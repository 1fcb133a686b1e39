/** The progress of a change to a project as server-sent events. */
import type { ApplyEvent } from "@castellan/domain/app/project/ApplyEvent.ts"
import { type Effect, Stream } from "effect"
import { ApplyEvent as WireEvent, type ApplyEventBody } from "../api/groups/Apps.ts"
import { unnamedWriterOf } from "../api/StreamEvents.ts"
import * as ServerSent from "./ServerSent.ts"

const bodyOf = (event: ApplyEvent): ApplyEventBody => {
  switch (event._tag) {
    case "Status":
      return { type: "status", message: event.message }
    case "File":
      return { type: "file", path: event.path, status: "applied" }
    case "Package":
      return { type: "package", name: event.name, version: event.version }
    case "Problem":
      return { type: "error", message: event.message }
    case "Complete":
      return {
        type: "complete",
        appliedFiles: event.files,
        installedPackages: event.packages,
        success: event.errors.length === 0,
        errors: event.errors
      }
  }
}

const writeEvent = unnamedWriterOf(WireEvent)

const write = (data: ApplyEventBody) => writeEvent({ data })

const writeError = (message: string) => write({ type: "error", message })

/** The response. It ends when `lost` fails; the change continues. */
export const respond = (events: Stream.Stream<ApplyEvent>, lost: Effect.Effect<never, ServerSent.AccessLost>) =>
  ServerSent.respond(
    Stream.map(events, (event) => write(bodyOf(event))),
    {
      what: "progress of a change",
      resumes: false,
      broken: writeError("The change can't be followed any further"),
      accessLost: () => writeError("Unauthorized"),
      lost
    }
  )
