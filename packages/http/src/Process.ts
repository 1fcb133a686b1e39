/** The server as a process: the first signal begins its end, the second is its end. */
import { Duration } from "effect"
import * as Runtime from "effect/Runtime"
import { constants } from "node:os"
import type { Handle } from "./Shutdown.ts"

const signals = ["SIGINT", "SIGTERM"] as const

/** Runs the server until it ends by itself, or its time is over that began with the first signal. */
export const runMain = (ending: Handle) =>
  Runtime.makeRunMain(({ fiber, teardown }) => {
    const onSignal = (signal: (typeof signals)[number]) => {
      if (ending.hasBegun()) process.exit(128 + constants.signals[signal])
      ending.begin()
      setTimeout(() => process.exit(0), Duration.toMillis(ending.within))
      if (!ending.isServing) fiber.interruptUnsafe(fiber.id)
    }
    for (const signal of signals) process.on(signal, onSignal)
    fiber.addObserver((exit) => teardown(exit, (code) => process.exit(code)))
  })
