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

type Idle = SandboxGone | SandboxNotRunning | SandboxUnavailable

/** What a command printed and how it ended; `truncated` if it printed more than was kept here. */
export interface CommandResult {
  readonly stdout: string
  readonly stderr: string
  readonly truncated: boolean
  readonly end: CommandEnd
}

/** Bytes of each output stream that a result keeps: enough to read, little enough to store with every run. */
export const resultLimit = 256 * 1024

/** What an ended command printed, up to `resultLimit` bytes a stream. */
export const resultOf = (provider: SandboxProvider["Service"]) => {
  // Output as long as what the provider keeps may have been longer.
  const kept = Math.min(resultLimit, provider.supports.outputKept - 1)
  return Effect.fn("Sandboxes.result")(function* (name: SandboxName, id: CommandId, end: CommandEnd) {
    const stdout = yield* readFirst(provider.output(name, id, OutputPosition.only("stdout")), kept)
    const stderr = yield* readFirst(provider.output(name, id, OutputPosition.only("stderr")), kept)
    const truncated = stdout.truncated || stderr.truncated
    return { stdout: stdout.text, stderr: stderr.text, truncated, end }
  })
}

/** What anyone who holds a sandbox does with it. Whose it is, is for the caller to know. */
export class Sandboxes extends Context.Service<
  Sandboxes,
  {
    /** The sandbox as its provider sees it now. Never wakes it. */
    readonly status: (name: SandboxName) => Effect.Effect<Sandbox, SandboxGone | SandboxUnavailable>
    /** Runs a command to its end. Interrupted, it kills the command. */
    readonly run: (
      name: SandboxName,
      command: Command,
      timeout: Duration.Duration
    ) => Effect.Effect<CommandResult, CommandNotFound | Idle>
    /** What an ended command printed, up to `resultLimit` bytes a stream. */
    readonly result: (
      name: SandboxName,
      id: CommandId,
      end: CommandEnd
    ) => Effect.Effect<CommandResult, CommandNotFound | SandboxGone | SandboxUnavailable>
    /** How a command ended, once it has. */
    readonly awaitEnd: (
      name: SandboxName,
      id: CommandId
    ) => Effect.Effect<CommandEnd, CommandNotFound | SandboxGone | SandboxUnavailable>
    readonly readFile: (
      name: SandboxName,
      path: SandboxPath
    ) => Stream.Stream<Uint8Array, FileNotFound | FileRefused | Idle>
    /** Writes a file whole or not at all; gives the bytes written. */
    readonly writeFile: <E>(
      name: SandboxName,
      path: SandboxPath,
      content: Stream.Stream<Uint8Array, E>,
      options?: WriteOptions
    ) => Effect.Effect<number, E | FileNotFound | FileRefused | Idle>
    readonly listFiles: (
      name: SandboxName,
      path: SandboxPath,
      page: ListingPage
    ) => Effect.Effect<FilePage, FileNotFound | FileRefused | Idle>
    /** Ends what runs and keeps the files. May be repeated. */
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
        return end ?? (yield* Effect.die(new Error("a provider's wait completed before the command had ended")))
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
