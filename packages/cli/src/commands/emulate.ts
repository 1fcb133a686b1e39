/** `castellan emulate`: serves the APIs of other services on this machine. Emulators are imported only when used. */
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

/** The emulators are in an optional package, which may not be installed. */
const fromTestkit = <A>(load: () => Promise<A>) =>
  Effect.tryPromise({
    try: load,
    catch: () => new UsageRefused({ say: "emulate needs the package @castellan/testkit: install it and try again" })
  })

const directory = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "castellan-vercel-"))),
  (made) => Effect.promise(() => rm(made, { recursive: true, force: true, maxRetries: 3 }))
)

/** Sandboxes on this machine, removed when the emulator ends. */
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
      Flag.withDescription("The port on localhost to listen on; 0 for any free port"),
      Flag.withSchema(
        Schema.Int.check(
          Schema.makeFilter((port) => (port >= 0 && port < 65_536) || "Expected a port, from 0 to 65535")
        )
      ),
      Flag.withDefault(7799)
    ),
    provider: Flag.Literals("provider", ["local", "memory"]).pipe(
      Flag.withDescription(
        "local: real sandboxes on this machine; memory: simulated ones that know only a few programs"
      ),
      Flag.withDefault("local")
    )
  },
  Effect.fnUntraced(function* ({ port, provider }) {
    const { make } = yield* fromTestkit(() => import("@castellan/testkit/emulators/vercel/VercelEmulator.ts"))
    const { variables } = yield* fromTestkit(() => import("@castellan/testkit/emulators/vercel/Variables.ts"))
    yield* Effect.gen(function* () {
      const emulator = yield* make({ port })
      const lines = Object.entries(variables(emulator)).map(([name, value]) => `export ${name}="${value}"\n`)
      const usage = `Vercel Sandbox's API listens on ${emulator.url} (${provider} sandboxes). Set these variables in a shell to make
@vercel/sandbox and the \`sandbox\` command use it:

${lines.join("")}`
      // The emulator is useful even if its output can't be written: a program may know the port.
      yield* Effect.ignore(Output.print(usage))
      return yield* hangUp
    }).pipe(
      Effect.scoped,
      Effect.provide(sandboxes(provider)),
      Effect.catchTags({
        EmulatorUnavailable: ({ cause, port }) =>
          new UsageRefused({ say: `can't listen on port ${port}: ${cause.message}` }),
        LocalUnavailable: ({ message }) => new UsageRefused({ say: message })
      })
    )
  })
).pipe(
  Command.withDescription("Emulate the API of Vercel Sandbox for its SDK and its command line, until Ctrl-C"),
  Command.withExamples([{ command: "castellan emulate vercel --provider memory" }])
)

export const emulate = Command.make("emulate").pipe(
  Command.withDescription("Emulate the API of another service on this machine"),
  Command.withExamples([{ command: "castellan emulate vercel" }]),
  Command.withSubcommands([vercel])
)
