/** The server as a process: signals that shut it down, and output that nobody reads. */
import { Duration } from "effect"
import * as Runtime from "effect/Runtime"
import { constants } from "node:os"
import { ignoreOutputErrors } from "./ignoreOutputErrors.ts"
import type { Handle } from "./Shutdown.ts"

const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const

/**
 * Runs the server until it ends by itself or shuts down. The first signal begins the shutdown. A second SIGINT or SIGTERM
 * ends the process at once; a second SIGHUP does not, since the kernel and the shell each send one for a closed terminal.
 */
export const runMain = (ending: Handle) =>
  Runtime.makeRunMain(({ fiber, teardown }) => {
    ignoreOutputErrors()
    const onSignal = (signal: (typeof signals)[number]) => {
      if (ending.hasBegun()) {
        if (signal === "SIGHUP") return
        process.exit(128 + constants.signals[signal])
      }
      ending.begin()
      setTimeout(() => process.exit(0), Duration.toMillis(ending.within))
      if (!ending.isServing) fiber.interruptUnsafe(fiber.id)
    }
    for (const signal of signals) process.on(signal, onSignal)
    fiber.addObserver((exit) => teardown(exit, (code) => process.exit(code)))
  })
