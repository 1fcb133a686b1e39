/** Vercel's SDK against the emulator, for tests. */
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { type Emulator, type EmulatorOptions, make } from "@castellan/testkit/emulators/vercel/VercelEmulator.ts"
import * as MemorySandbox from "../../src/fakes/sandbox/MemorySandbox.ts"
import { asSteps, type Step } from "@castellan/testkit/Program.ts"
import { it } from "@effect/vitest"
import { APIError, Sandbox } from "@vercel/sandbox"
import { type Duration, Effect } from "effect"
import { TestClock } from "effect/testing"

export interface Client extends Emulator {
  /** Stops a sandbox at the provider, without the emulator. */
  readonly halt: (name: string) => Promise<void>
  /** The options of every static call of the SDK. */
  readonly at: {
    readonly fetch: typeof globalThis.fetch
    readonly token: string
    readonly teamId: string
    readonly projectId: string
  }
  readonly create: (params?: NonNullable<Parameters<typeof Sandbox.create>[0]>) => Promise<Sandbox>
}

const clientOf = (emulator: Emulator, provider: typeof SandboxProvider.Service): Client => {
  const halt = (name: string) => Effect.runPromise(provider.stop(SandboxName.make(name)))
  const at = { fetch: emulator.fetch, token: "token-for-tests", teamId: "team_1", projectId: "prj_1" }
  return { ...emulator, halt, at, create: (params = {}) => Sandbox.create({ ...params, ...at }) }
}

/** A test with its own emulator over sandboxes in memory. */
export const tested = (name: string, test: (vercel: Client) => Promise<void>, options: EmulatorOptions = {}) =>
  it.live(name, () =>
    Effect.gen(function* () {
      const client = clientOf(yield* make(options), yield* SandboxProvider)
      yield* Effect.promise(() => test(client))
    }).pipe(Effect.scoped, Effect.provide(MemorySandbox.layer))
  )

/** A program for sandboxes in memory, as the SDK starts it. */
export const steps = (...all: ReadonlyArray<Step>) => {
  const { args, command } = asSteps(...all)
  return { cmd: command, args: [...args] }
}

/** The status and code of the error of an SDK call. */
export const refusal = async (call: Promise<unknown>): Promise<readonly [number, unknown]> => {
  try {
    await call
  } catch (error) {
    if (!(error instanceof APIError)) throw error
    const { json } = error as { json?: { error?: { code?: string } } }
    return [error.response.status, json?.error?.code]
  }
  throw new Error("It was not refused")
}

/** The same on a test clock; `pass` advances it. */
export const timed = (
  name: string,
  test: (vercel: Client, pass: (by: Duration.Input) => Promise<void>) => Promise<void>,
  options: EmulatorOptions = {}
) =>
  it.effect(name, () =>
    Effect.gen(function* () {
      const client = clientOf(yield* make(options), yield* SandboxProvider)
      const clock = yield* Effect.context<never>()
      const pass = (by: Duration.Input) => Effect.runPromiseWith(clock)(TestClock.adjust(by))
      yield* Effect.promise(() => test(client, pass))
    }).pipe(Effect.scoped, Effect.provide(MemorySandbox.layer))
  )
