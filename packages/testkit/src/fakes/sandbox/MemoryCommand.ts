import {
  CommandEnd,
  type CommandId,
  type Output,
  OutputPosition,
  type OutputStream,
  StartedCommand,
  type StartFailure
} from "@castellan/domain/sandbox/Command.ts"
import { DateTime, Deferred, Effect, Fiber, Option, Stream } from "effect"

/** The part of a command that its program uses. */
export interface CommandContext {
  readonly print: (stream: OutputStream, bytes: Uint8Array) => void
  /** Registers a process of the command, which is interrupted when the command ends. */
  readonly own: (process: Fiber.Fiber<unknown, unknown>) => void
}

/** A running or ended command in memory. */
export class MemoryCommand implements CommandContext {
  readonly id: CommandId
  readonly startedAt: number
  end: CommandEnd | undefined
  readonly ended = Deferred.makeUnsafe<CommandEnd>()
  private readonly kept: number
  private readonly output: Record<OutputStream, Uint8Array> = { stdout: new Uint8Array(), stderr: new Uint8Array() }
  private readonly readers = new Set<() => void>()
  private readonly processes = new Set<Fiber.Fiber<unknown, unknown>>()

  constructor(id: CommandId, startedAt: number, kept: number) {
    this.id = id
    this.startedAt = startedAt
    this.kept = kept
  }

  get started(): StartedCommand {
    return new StartedCommand({ id: this.id, startedAt: DateTime.makeUnsafe(this.startedAt), end: this.end ?? null })
  }

  print(stream: OutputStream, bytes: Uint8Array): void {
    const before = this.output[stream]
    const room = bytes.subarray(0, Math.max(0, this.kept - before.length))
    const joined = new Uint8Array(before.length + room.length)
    joined.set(before)
    joined.set(room, before.length)
    this.output[stream] = joined
    this.wake()
  }

  finish(by: CommandEnd["by"], exitCode: number, at: number, more: Pick<CommandEnd, "failure"> = {}): void {
    if (this.end !== undefined) return
    this.end = new CommandEnd({ by, exitCode, at: DateTime.makeUnsafe(at), ...more })
    Deferred.doneUnsafe(this.ended, Effect.succeed(this.end))
    this.wake()
  }

  /** Ends a command whose program could not run. */
  refuse(failure: StartFailure, at: number): void {
    this.finish("unstarted", 126, at, { failure })
  }

  own(process: Fiber.Fiber<unknown, unknown>): void {
    this.processes.add(process)
  }

  /** Ends the command and the processes that it left behind. */
  terminate(by: "killed" | "lost" | "timedOut", at: number): Effect.Effect<void> {
    this.finish(by, 137, at)
    const all = [...this.processes]
    this.processes.clear()
    return Effect.forkDetach(Fiber.interruptAll(all)).pipe(Effect.asVoid)
  }

  read(from: OutputPosition): Stream.Stream<Output> {
    return Stream.paginate(from, (at) =>
      Effect.suspend((): Effect.Effect<readonly [ReadonlyArray<Output>, Option.Option<OutputPosition>]> => {
        const fresh = (["stdout", "stderr"] as const).flatMap((stream) =>
          at[stream] < this.output[stream].length ? [{ stream, bytes: this.output[stream].subarray(at[stream]) }] : []
        )
        const [piece] = fresh
        if (piece !== undefined) {
          const next = new OutputPosition({ ...at, [piece.stream]: at[piece.stream] + piece.bytes.length })
          return Effect.succeed([[{ ...piece, next }], Option.some(next)])
        }
        if (this.end !== undefined) return Effect.succeed([[], Option.none()])
        return Effect.as(this.news, [[], Option.some(at)])
      })
    )
  }

  private readonly news = Effect.callback<void>((resume) => {
    const wake = () => resume(Effect.void)
    this.readers.add(wake)
    return Effect.sync(() => this.readers.delete(wake))
  })

  private wake(): void {
    const all = [...this.readers]
    this.readers.clear()
    for (const reader of all) reader()
  }
}
