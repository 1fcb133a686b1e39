/** Emulators as a program of their own: `castellan-emulate vercel [--port N] [--provider memory|local]`. */
import type { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Cause, Effect, Fiber, Layer } from "effect"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"
import * as MemorySandbox from "../fakes/MemorySandbox.ts"
import * as VercelEmulator from "./vercel/VercelEmulator.ts"

const usage = `usage: castellan-emulate vercel [--port <port>] [--provider local|memory]

  --port      the port of the loopback to listen on; 7799 if left out, 0 for any that is free
  --provider  local: sandboxes of this machine, whose commands are real (the default)
              memory: sandboxes in memory, with a handful of programs`

/** What is said, with nothing about where it went wrong, to who called for it. */
class Misused extends Error {}

interface LocalSandbox {
  readonly layer: (options: {
    readonly directory: string
  }) => Layer.Layer<SandboxProvider, { readonly message: string }>
}

/** The local provider. This package does not depend on it: it may not be there. */
const localSandbox = Effect.tryPromise({
  try: () => {
    const address: string = "@castellan/adapters/local/LocalSandbox.ts"
    return import(address) as Promise<LocalSandbox>
  },
  catch: () => new Misused("--provider local needs the package @castellan/adapters, which is not installed")
})

const directory = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "castellan-vercel-"))),
  (made) => Effect.promise(() => rm(made, { recursive: true, force: true, maxRetries: 3 }))
)

const local = Layer.unwrap(
  Effect.gen(function* () {
    const { layer } = yield* localSandbox
    return layer({ directory: yield* directory })
  })
)

const encoded = (part: object) => Buffer.from(JSON.stringify(part)).toString("base64url")

/** A token that nobody has signed, in place of the one that Vercel gives its own: clients don't look at more. */
const token = [
  encoded({ alg: "none", typ: "JWT" }),
  encoded({ owner_id: "team_emulated", project_id: "prj_emulated", exp: 4_102_444_800 }),
  "unsigned"
].join(".")

const told = ({ url }: VercelEmulator.Emulator, provider: string) => {
  const preload = new URL("../../bin/preload.mjs", import.meta.url)
  preload.searchParams.set("api", new URL(url).origin)
  return `Vercel Sandbox's API listens on ${url} (${provider} sandboxes). In a shell with these lines, programs that use
@vercel/sandbox and the \`sandbox\` command speak to it:

export NODE_OPTIONS="--import=${preload.href}"
export VERCEL_OIDC_TOKEN="${token}"
`
}

const wanted = Effect.try({
  try: () => {
    const { positionals, values } = parseArgs({
      allowPositionals: true,
      options: {
        port: { type: "string", default: "7799" },
        provider: { type: "string", default: "local" },
        help: { type: "boolean", short: "h", default: false }
      }
    })
    return { what: positionals.join(" "), ...values, port: Number(values.port) }
  },
  catch: (error) => new Misused(`${(error as Error).message}\n\n${usage}`)
})

const program = Effect.gen(function* () {
  const { help, port, provider, what } = yield* wanted
  if (help) return console.log(usage)
  const isPort = Number.isInteger(port) && port >= 0 && port < 65_536
  if (what !== "vercel" || !isPort || !["local", "memory"].includes(provider))
    return yield* Effect.fail(new Misused(usage))
  const emulator = VercelEmulator.layer({ port }).pipe(
    Layer.provide(provider === "memory" ? MemorySandbox.layer : local)
  )
  yield* Effect.gen(function* () {
    console.log(told(yield* VercelEmulator.VercelEmulator, provider))
    return yield* Effect.never
  }).pipe(Effect.provide(emulator))
})

const fiber = Effect.runFork(program)
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.once(signal, () => void Effect.runPromise(Fiber.interrupt(fiber)))
}
fiber.addObserver((exit) => {
  if (exit._tag === "Success" || Cause.hasInterruptsOnly(exit.cause)) return process.exit(0)
  const error = Cause.squash(exit.cause)
  console.error(`castellan-emulate: ${error instanceof Error ? error.message : String(error)}`)
  process.exit(1)
})
