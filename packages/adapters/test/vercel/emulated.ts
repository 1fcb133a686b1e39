/** The adapter over Vercel's emulator, which has the sandboxes of this machine. */
import type { LocalUnavailable } from "@castellan/adapters/local/Isolation.ts"
import type { Credentials, VercelOptions, VercelUnavailable } from "@castellan/adapters/vercel/Options.ts"
import * as VercelSandbox from "@castellan/adapters/vercel/VercelSandbox.ts"
import type { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import * as VercelEmulator from "@castellan/testkit/emulators/vercel/VercelEmulator.ts"
import { Effect, Layer, Redacted } from "effect"
import { local } from "../local/temporary.ts"

export const credentials: Credentials = {
  token: Redacted.make("a-token-of-tests"),
  teamId: "team_test",
  projectId: "prj_test"
}

export interface Emulated extends Partial<VercelOptions> {
  readonly emulator?: VercelEmulator.EmulatorOptions
}

/** The adapter, and the emulator it speaks to. */
export const emulated = ({ emulator = {}, ...options }: Emulated = {}): Layer.Layer<
  SandboxProvider | VercelEmulator.VercelEmulator,
  LocalUnavailable | VercelUnavailable
> =>
  Layer.unwrap(
    Effect.map(VercelEmulator.VercelEmulator, ({ fetch }) =>
      VercelSandbox.layer({
        credentials: Effect.succeed(credentials),
        outputKept: 256 * 1024,
        fetch,
        ...options
      })
    )
  ).pipe(Layer.provideMerge(VercelEmulator.layer({ registry: true, ...emulator })), Layer.provide(local()))
