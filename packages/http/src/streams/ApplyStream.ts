/** A change of a project as server-sent events. */
import type { ApplyEvent } from "@castellan/domain/app/project/ApplyEvent.ts"
import { type Effect, Stream } from "effect"
import * as ServerSent from "./ServerSent.ts"

const bodyOf = (event: ApplyEvent): Record<string, unknown> => {
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

/** The answer that tells of the change; it breaks off when `lost` fails, and the change goes on. */
export const respond = (events: Stream.Stream<ApplyEvent>, lost: Effect.Effect<never, ServerSent.AccessLost>) =>
  ServerSent.respond(
    Stream.map(events, (event) => ServerSent.writeUnnamed(bodyOf(event))),
    {
      what: "a change of an app",
      resumes: false,
      broken: ServerSent.writeUnnamed({ type: "error", message: "The change can't be followed any further" }),
      accessLost: () => ServerSent.writeUnnamed({ type: "error", message: "Unauthorized" }),
      lost
    }
  )
