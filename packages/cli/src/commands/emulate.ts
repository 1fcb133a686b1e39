/** Other people's services on this machine. What does it is loaded when it is asked for, and not before. */
import type { LocalUnavailable } from "@castellan/adapters/local/isolation/Isolation.ts"
import type { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { UsageRefused } from "../client/Failure.ts"
import * as Output from "../output/Output.ts"

/** The emulators are in a package of their own, for tests: it may not be there. */
const fromTestkit = <A>(load: () => Promise<A>) =>
  Effect.tryPromise({
    try: load,
    catch: () => new UsageRefused({ say: "this needs the package @castellan/testkit, which is not installed" })
  })

const directory = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "castellan-vercel-"))),
  (made) => Effect.promise(() => rm(made, { recursive: true, force: true, maxRetries: 3 }))
)

/** Sandboxes of this machine, gone when the emulator is. */
const local = Layer.unwrap(
  Effect.gen(function* () {
    const { layer } = yield* Effect.promise(() => import("@castellan/adapters/local/LocalSandbox.ts"))
    return layer({ directory: yield* directory })
  })
)

const inMemory = Layer.unwrap(
  Effect.map(
    fromTestkit(() => import("@castellan/testkit/fakes/sandbox/MemorySandbox.ts")),
    ({ layer }) => layer
  )
)

const sandboxes = (provider: "local" | "memory"): Layer.Layer<SandboxProvider, LocalUnavailable | UsageRefused> =>
  provider === "memory" ? inMemory : local

const hangUp = Effect.callback<void>((resume) => void process.once("SIGHUP", () => resume(Effect.interrupt)))

const vercel = Command.make(
  "vercel",
  {
    port: Flag.Int("port").pipe(
      Flag.withMetavar("PORT"),
      Flag.withDescription("The port of the loopback to listen on; 0 for any that is free"),
      Flag.withSchema(
        Schema.Int.check(
          Schema.makeFilter((port) => (port >= 0 && port < 65_536) || "Expected a port, from 0 to 65535")
        )
      ),
      Flag.withDefault(7799)
    ),
    provider: Flag.Literals("provider", ["local", "memory"]).pipe(
      Flag.withDescription("local: sandboxes of this machine, whose commands are real; memory: a handful of programs"),
      Flag.withDefault("local")
    )
  },
  Effect.fnUntraced(function* ({ port, provider }) {
    const { make } = yield* fromTestkit(() => import("@castellan/testkit/emulators/vercel/VercelEmulator.ts"))
    const { variables } = yield* fromTestkit(() => import("@castellan/testkit/emulators/vercel/Variables.ts"))
    yield* Effect.gen(function* () {
      const emulator = yield* make({ port })
      const lines = Object.entries(variables(emulator)).map(([name, value]) => `export ${name}="${value}"\n`)
      const usage = `Vercel Sandbox's API listens on ${emulator.url} (${provider} sandboxes). In a shell with these lines, programs that
use @vercel/sandbox and the \`sandbox\` command speak to it:

${lines.join("")}`
      // Programs that know the port use the emulator also if nobody reads this.
      yield* Effect.ignore(Output.print(usage))
      return yield* hangUp
    }).pipe(
      Effect.scoped,
      Effect.provide(sandboxes(provider)),
      Effect.catchTags({
        EmulatorUnavailable: ({ cause, port }) =>
          new UsageRefused({ say: `it can't listen on port ${port}: ${cause.message}` }),
        LocalUnavailable: ({ message }) => new UsageRefused({ say: message })
      })
    )
  })
).pipe(
  Command.withDescription("Answer as Vercel Sandbox does, to its own SDK and its own command line, until Ctrl-C"),
  Command.withExamples([{ command: "castellan emulate vercel --provider memory" }])
)

export const emulate = Command.make("emulate").pipe(
  Command.withDescription("Have a service of others on this machine"),
  Command.withExamples([{ command: "castellan emulate vercel" }]),
  Command.withSubcommands([vercel])
)
