/** Runs commands and transfers files in a sandbox of which only the name is known. */
import { Context, type Duration, Effect, Layer, Option, type Stream } from "effect"
import { SecureRandom } from "effect/crypto/SecureRandom"
import { newNonce } from "../newNonce.ts"
import { type Command, type CommandEnd, CommandId, OutputPosition } from "./Command.ts"
import { readFirst } from "./OutputText.ts"
import type { Sandbox } from "./Sandbox.ts"
import type { FilePage, ListingPage, SandboxPath } from "./SandboxFile.ts"
import type { SandboxName } from "./SandboxName.ts"
import {
  type CommandNotFound,
  type FileNotFound,
  type FileRefused,
  SandboxGone,
  type SandboxNotRunning,
  SandboxProvider,
  type SandboxUnavailable,
  type WriteOptions
} from "./SandboxProvider.ts"

type NotRunning = SandboxGone | SandboxNotRunning | SandboxUnavailable

/** The output and the end of a command. `truncated` if it printed more than the result has. */
export interface CommandResult {
  readonly stdout: string
  readonly stderr: string
  readonly truncated: boolean
  readonly end: CommandEnd
}

/** Maximum bytes of each output stream in a result, which is stored with every run. */
export const resultLimit = 256 * 1024

/** Reads the result of an ended command. */
export const resultOf = (provider: SandboxProvider["Service"]) => {
  // Output that fills the provider's limit may have been truncated, so one byte less is read to detect it.
  const limit = Math.min(resultLimit, provider.supports.outputKept - 1)
  return Effect.fn("Sandboxes.result")(function* (name: SandboxName, id: CommandId, end: CommandEnd) {
    const stdout = yield* readFirst(provider.output(name, id, OutputPosition.only("stdout")), limit)
    const stderr = yield* readFirst(provider.output(name, id, OutputPosition.only("stderr")), limit)
    const truncated = stdout.truncated || stderr.truncated
    return { stdout: stdout.text, stderr: stderr.text, truncated, end }
  })
}

/** Operations on a sandbox by its name. Callers check who owns it. */
export class Sandboxes extends Context.Service<
  Sandboxes,
  {
    /** The current state of the sandbox at its provider. Never wakes it. */
    readonly status: (name: SandboxName) => Effect.Effect<Sandbox, SandboxGone | SandboxUnavailable>
    /** Runs a command to its end. An interrupt kills the command. */
    readonly run: (
      name: SandboxName,
      command: Command,
      timeout: Duration.Duration
    ) => Effect.Effect<CommandResult, CommandNotFound | NotRunning>
    /** The output of an ended command, up to `resultLimit` bytes a stream. */
    readonly result: (
      name: SandboxName,
      id: CommandId,
      end: CommandEnd
    ) => Effect.Effect<CommandResult, CommandNotFound | SandboxGone | SandboxUnavailable>
    /** Waits for the end of a command. */
    readonly awaitEnd: (
      name: SandboxName,
      id: CommandId
    ) => Effect.Effect<CommandEnd, CommandNotFound | SandboxGone | SandboxUnavailable>
    readonly readFile: (
      name: SandboxName,
      path: SandboxPath
    ) => Stream.Stream<Uint8Array, FileNotFound | FileRefused | NotRunning>
    /** Writes a file atomically. Returns the number of bytes written. */
    readonly writeFile: <E>(
      name: SandboxName,
      path: SandboxPath,
      content: Stream.Stream<Uint8Array, E>,
      options?: WriteOptions
    ) => Effect.Effect<number, E | FileNotFound | FileRefused | NotRunning>
    readonly listFiles: (
      name: SandboxName,
      path: SandboxPath,
      page: ListingPage
    ) => Effect.Effect<FilePage, FileNotFound | FileRefused | NotRunning>
    /** Ends every process and keeps the files. Idempotent. */
    readonly stop: (name: SandboxName) => Effect.Effect<void, SandboxUnavailable>
  }
>()("domain/sandbox/Sandboxes") {
  static readonly layer = Layer.effect(
    Sandboxes,
    Effect.gen(function* () {
      const provider = yield* SandboxProvider
      const random = yield* SecureRandom
      const result = resultOf(provider)

      const status = Effect.fn("Sandboxes.status")(function* (name: SandboxName) {
        const found = yield* provider.find(name)
        return Option.isSome(found) ? found.value : yield* new SandboxGone({ name })
      })

      const awaitEnd = Effect.fn("Sandboxes.awaitEnd")(function* (name: SandboxName, id: CommandId) {
        const { end } = yield* provider.wait(name, id)
        return end ?? (yield* Effect.die(new Error("SandboxProvider.wait completed before the command had ended")))
      })

      const run = Effect.fn("Sandboxes.run")(function* (
        name: SandboxName,
        command: Command,
        timeout: Duration.Duration
      ) {
        const id = CommandId.make(`cmd_${yield* newNonce(random)}`)
        const end = yield* provider.start(name, { ...command, id, timeout }).pipe(
          Effect.andThen(awaitEnd(name, id)),
          Effect.onInterrupt(() => Effect.ignore(provider.kill(name, id)))
        )
        return yield* result(name, id, end)
      })

      return Sandboxes.of({
        status,
        run,
        result,
        awaitEnd,
        readFile: provider.readFile,
        writeFile: provider.writeFile,
        listFiles: provider.listFiles,
        stop: provider.stop
      })
    })
  )
}
