/** The Vercel adapter over Vercel's emulator, whose sandboxes are local or in memory. */
import type { LocalUnavailable } from "../../src/local/isolation/Isolation.ts"
import type { Credentials, VercelOptions, VercelUnavailable } from "@castellan/adapters/vercel/Options.ts"
import * as VercelSandbox from "@castellan/adapters/vercel/VercelSandbox.ts"
import type { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import type { EmulatorUnavailable } from "@castellan/testkit/emulators/vercel/wire/Server.ts"
import * as VercelEmulator from "@castellan/testkit/emulators/vercel/VercelEmulator.ts"
import * as MemorySandbox from "@castellan/testkit/fakes/sandbox/MemorySandbox.ts"
import type { MemoryPrograms } from "@castellan/testkit/fakes/sandbox/MemoryPrograms.ts"
import { Effect, Layer, Redacted } from "effect"
import { localProvider } from "../local/temporary.ts"
import { programs } from "./inMemory.ts"

export const credentials: Credentials = {
  token: Redacted.make("a-token-of-tests"),
  teamId: "team_test",
  projectId: "prj_test"
}

export interface Emulated extends Partial<VercelOptions> {
  readonly emulator?: VercelEmulator.EmulatorOptions
}

/** The adapter and its emulator, over the sandboxes of another provider. */
const over = <E>(provider: Layer.Layer<SandboxProvider, E>, { emulator = {}, ...options }: Partial<Emulated>) =>
  Layer.unwrap(
    Effect.map(VercelEmulator.VercelEmulator, ({ fetch }) =>
      VercelSandbox.layer({ credentials: Effect.succeed(credentials), fetch, ...options })
    )
  ).pipe(Layer.provideMerge(VercelEmulator.layer({ registry: true, ...emulator })), Layer.provide(provider))

/** Over local sandboxes, with real commands. */
export const emulated = (
  options: Emulated = {}
): Layer.Layer<
  SandboxProvider | VercelEmulator.VercelEmulator,
  LocalUnavailable | EmulatorUnavailable | VercelUnavailable
> => over(localProvider(), { outputKept: 256 * 1024, ...options })

/** Over sandboxes in memory. Less output is kept, because guest scripts print it as output of the fake. */
export const inMemory = ({
  shell = programs,
  ...options
}: Emulated & { readonly shell?: MemoryPrograms } = {}): Layer.Layer<
  SandboxProvider | VercelEmulator.VercelEmulator,
  EmulatorUnavailable | VercelUnavailable
> => over(MemorySandbox.layerWith({ programs: shell }), { outputKept: 32 * 1024, ...options })
