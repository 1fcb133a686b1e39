/** `castellan doctor`: checks what isolates local sandboxes on this host, by starting one in a temporary directory. */
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { ExitCode } from "../ExitCode.ts"
import { DataUnavailable } from "../client/Failure.ts"
import * as Output from "../output/Output.ts"
import { table } from "../output/Table.ts"

const directory = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "castellan-doctor-"))),
  (made) => Effect.promise(() => rm(made, { recursive: true, force: true, maxRetries: 3 }))
)

const supports = Effect.gen(function* () {
  // Imported here, because few commands need the local adapter.
  const { layerConfig } = yield* Effect.promise(() => import("@castellan/adapters/local/LocalSandbox.ts"))
  const provider = layerConfig({ directory: yield* directory })
  return yield* Effect.map(SandboxProvider, (provider) => provider.supports).pipe(Effect.provide(provider))
}).pipe(
  Effect.scoped,
  Effect.catchTag("LocalUnavailable", ({ message }) => new DataUnavailable({ say: message, exit: ExitCode.failed }))
)

export const doctor = Command.make(
  "doctor",
  {},
  Effect.fnUntraced(function* () {
    const { isolation, protections = [] } = yield* supports
    if (yield* Output.isForProgram) return yield* Output.print(`${JSON.stringify({ isolation, protections })}\n`)
    const rows = protections.map(({ holds, name, reason }) => [
      name.replaceAll("_", " "),
      holds ? "yes" : "no",
      reason ?? ""
    ])
    yield* Output.print(`isolation: ${isolation}\n${table(["protection", "holds", "note"], rows)}`)
  })
).pipe(
  Command.withDescription(
    "Check which protections isolate local sandboxes on this host, for the current user. Needs no server"
  ),
  Command.withExamples([{ command: "castellan doctor" }])
)
