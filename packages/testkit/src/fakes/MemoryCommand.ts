import {
  CommandEnd,
  type CommandId,
  type Output,
  OutputPosition,
  type OutputStream,
  StartedCommand
} from "@castellan/domain/sandbox/Command.ts"
import type { CommandSpec } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Clock, DateTime, Deferred, Effect, Fiber, Option, Stream } from "effect"
import { type Step, stepper } from "../Program.ts"
import { keptPort, runScript, serves } from "./MemoryApp.ts"
import { runCheckout } from "./MemoryCheckout.ts"
import { home, type MemoryFiles, resolve } from "./MemoryFiles.ts"
import { MemoryListener } from "./MemoryListener.ts"

const utf8 = new TextEncoder()

/** A command that runs, or ran, in memory. */
export class MemoryCommand {
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

  finish(by: CommandEnd["by"], exitCode: number, at: number): void {
    if (this.end !== undefined) return
    this.end = new CommandEnd({ by, exitCode, at: DateTime.makeUnsafe(at) })
    Deferred.doneUnsafe(this.ended, Effect.succeed(this.end))
    this.wake()
  }

  /** Keeps a process of the command for the day it is killed. */
  own(process: Fiber.Fiber<unknown, unknown>): void {
    this.processes.add(process)
  }

  /** Ends the command and what it left behind. */
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

/** What a command finds in its sandbox. */
export interface Surroundings {
  readonly files: MemoryFiles
  /** What listens there, by its port. */
  readonly listeners: Map<number, MemoryListener>
  /** Whether it has npm. */
  readonly registry: boolean
}

interface Process extends Surroundings {
  readonly command: MemoryCommand
  readonly spec: CommandSpec
  readonly cwd: string
}

const variables = ({ spec }: Process): Record<string, string> => ({ HOME: home, ...spec.env })

/** Listens for as long as it is let. */
const listen = ({ command, listeners }: Process, port: number, text: string) => {
  if (listeners.has(port)) {
    command.print("stderr", utf8.encode(`${port}: address in use\n`))
    return Effect.succeed(1)
  }
  const listener = new MemoryListener(text)
  listeners.set(port, listener)
  const close = Effect.sync(() => {
    listeners.delete(port)
    listener.close()
  })
  return Effect.ensuring(Effect.never, close)
}

/** What a dev server in memory answers. */
const page = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n"

/** Runs a script of an app's sandbox. */
const runNode = Effect.fnUntraced(function* (process: Process) {
  const { command, cwd, files, spec } = process
  const port = keptPort(spec.args)
  if (port !== undefined) {
    while (!serves({ files, cwd, now: 0 })) yield* Effect.sleep(1000)
    return yield* listen(process, port, page)
  }
  const printed = runScript({ files, cwd, now: yield* Clock.currentTimeMillis }, spec.args)
  command.print(printed === undefined ? "stderr" : "stdout", utf8.encode(printed ?? "node: no such script\n"))
  return printed === undefined ? 1 : 0
})

/** Does one step; gives the code to exit with, if it is the last. */
const doStep = Effect.fnUntraced(function* (process: Process, step: Step) {
  const { command, cwd, files } = process
  const now = yield* Clock.currentTimeMillis
  switch (step._tag) {
    case "Print":
      return void command.print(step.to, utf8.encode(step.text))
    case "Flood":
      return void command.print("stdout", utf8.encode(`${"x".repeat(step.length - 1)}\n`.repeat(step.lines)))
    case "PrintVariable":
      return void command.print("stdout", utf8.encode(variables(process)[step.name] ?? ""))
    case "PrintDirectory":
      return void command.print("stdout", utf8.encode(cwd))
    case "PrintFile": {
      const bytes = files.read(resolve(cwd, step.path))
      return void command.print(bytes ? "stdout" : "stderr", bytes ?? utf8.encode(`${step.path}: not found\n`))
    }
    case "Append":
      return void files.append(resolve(cwd, step.path), utf8.encode(step.text), now)
    case "Sleep":
      return void (yield* Effect.sleep(step.millis))
    case "Leave": {
      const beat = Effect.flatMap(Clock.currentTimeMillis, (at) =>
        Effect.sync(() => files.append(resolve(cwd, step.path), utf8.encode("x"), at))
      )
      yield* beat
      return void command.own(yield* Effect.forkDetach(Effect.forever(Effect.andThen(Effect.sleep(20), beat))))
    }
    case "Listen":
      return yield* listen(process, step.port, step.text)
    case "Exit":
      return step.code
  }
})

const doSteps = Effect.fnUntraced(function* (process: Process, steps: ReadonlyArray<Step>) {
  for (const step of steps) {
    const code = yield* doStep(process, step)
    if (code !== undefined) return code
  }
  return 0
})

/** Prints a line and exits with 0. */
const says = ({ command }: Process, words: string) =>
  Effect.sync(() => {
    command.print("stdout", utf8.encode(`${words}\n`))
    return 0
  })

/**
 * The programs that are there: `steps`, and of a usual system `echo`, `sleep`, `true`, `false`, enough `sh` for git, and
 * enough `node` for an app.
 */
const programs: Record<string, (process: Process) => Effect.Effect<number>> = {
  [stepper]: (process) => doSteps(process, JSON.parse(process.spec.args[0] ?? "[]")),
  echo: (process) => says(process, process.spec.args.join(" ")),
  sh: ({ command, files, spec }) =>
    Effect.map(Clock.currentTimeMillis, (now) => {
      const printed = runCheckout(files, spec.args, now)
      if (typeof printed === "object") {
        command.print("stderr", utf8.encode(printed.stderr))
        return printed.code
      }
      command.print(printed === undefined ? "stderr" : "stdout", utf8.encode(printed ?? "sh: no such script\n"))
      return printed === undefined ? 1 : 0
    }),
  sleep: ({ spec }) => Effect.as(Effect.sleep(Number(spec.args[0]) * 1000), 0),
  node: runNode,
  // Enough to see that it is there.
  npm: (process) => says(process, "12.2.0"),
  true: () => Effect.succeed(0),
  false: () => Effect.succeed(1)
}

/** Runs a command to the code it exits with. */
export const execute = (command: MemoryCommand, surroundings: Surroundings, spec: CommandSpec): Effect.Effect<number> =>
  Effect.suspend(() => {
    const { files, registry } = surroundings
    const cwd = resolve(home, spec.cwd ?? home)
    const complain = (code: number, words: string) =>
      Effect.sync(() => {
        command.print("stderr", utf8.encode(words))
        return code
      })
    if (!files.isDirectory(cwd)) return complain(126, `${spec.cwd}: no such directory\n`)
    const isThere = Object.hasOwn(programs, spec.command) && (registry || spec.command !== "npm")
    const program = isThere ? programs[spec.command] : undefined
    return program?.({ ...surroundings, command, spec, cwd }) ?? complain(127, `${spec.command}: not found\n`)
  })
