/** The command line as a process. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import { run } from "./Cli.ts"
import { ExitCode } from "./ExitCode.ts"

// A key is shown to the server it is for, and to none that this one may point to.
const http = FetchHttpClient.layer.pipe(
  Layer.provide(Layer.succeed(FetchHttpClient.RequestInit, { redirect: "manual" }))
)

// Whoever reads us may have enough before we are done, as `head` does; a full disk is another matter.
for (const pipe of [process.stdout, process.stderr]) {
  pipe.on("error", ({ code }: NodeJS.ErrnoException) => {
    if (code === "EPIPE") process.exit(ExitCode.ok)
    console.error(`castellan: what was to be printed can't be written (${code})`)
    process.exit(ExitCode.failed)
  })
}

NodeRuntime.runMain(Effect.suspend(() => run(process.argv.slice(2))).pipe(Effect.provide([NodeServices.layer, http])), {
  disableErrorReporting: true,
  teardown: (exit, onExit) => {
    if (exit._tag === "Success") return process.exit(exit.value as number)
    if (Cause.hasInterruptsOnly(exit.cause)) return onExit(ExitCode.interrupted)
    console.error(Cause.pretty(exit.cause))
    onExit(ExitCode.failed)
  }
})
