/** The server as a process: handles signals, and survives output that can't be written. */
import { Duration } from "effect"
import * as Runtime from "effect/Runtime"
import { constants } from "node:os"
import { ignoreOutputErrors } from "./ignoreOutputErrors.ts"
import type { ShutdownControl } from "./Shutdown.ts"

const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const

/**
 * Runs the server until it ends or shuts down. The first signal begins the shutdown. A second SIGINT or SIGTERM ends the
 * process at once; a second SIGHUP does not, because the kernel and the shell each send one for a closed terminal.
 */
export const runMain = (shutdown: ShutdownControl) =>
  Runtime.makeRunMain(({ fiber, teardown }) => {
    ignoreOutputErrors()
    const onSignal = (signal: (typeof signals)[number]) => {
      if (shutdown.hasBegun()) {
        if (signal === "SIGHUP") return
        process.exit(128 + constants.signals[signal])
      }
      shutdown.begin()
      setTimeout(() => process.exit(0), Duration.toMillis(shutdown.timeout))
      if (!shutdown.isServing) fiber.interruptUnsafe(fiber.id)
    }
    for (const signal of signals) process.on(signal, onSignal)
    fiber.addObserver((exit) => teardown(exit, (code) => process.exit(code)))
  })
