/** Entry point of the command line. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import { ignoreOutputErrors } from "@castellan/http/server/ignoreOutputErrors.ts"
import { run } from "./Cli.ts"
import { ExitCode } from "./ExitCode.ts"

// Redirects are not followed: the API key must reach no other server.
const http = FetchHttpClient.layer.pipe(
  Layer.provide(Layer.succeed(FetchHttpClient.RequestInit, { redirect: "manual" }))
)

const args = process.argv.slice(2)

if (args[0] === "emulate") {
  // An emulator is a server and keeps running after the reader of its output is gone.
  ignoreOutputErrors()
} else {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on("error", ({ code }: NodeJS.ErrnoException) => {
      // The reader of a pipe has exited, as `head` does, or the terminal is closed: end without an error.
      if (code === "EPIPE" || code === "EIO") process.exit(ExitCode.ok)
      console.error(`castellan: can't write output (${code})`)
      process.exit(ExitCode.failed)
    })
  }
}

NodeRuntime.runMain(Effect.suspend(() => run(args)).pipe(Effect.provide([NodeServices.layer, http])), {
  disableErrorReporting: true,
  teardown: (exit, onExit) => {
    if (exit._tag === "Success") return process.exit(exit.value as number)
    if (Cause.hasInterruptsOnly(exit.cause)) return onExit(ExitCode.interrupted)
    console.error(Cause.pretty(exit.cause))
    onExit(ExitCode.failed)
  }
})
