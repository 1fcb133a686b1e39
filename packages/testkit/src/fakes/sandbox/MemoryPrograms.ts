/** The programs of sandboxes in memory. */
import type { StartFailure } from "@castellan/domain/sandbox/Command.ts"
import type { CommandSpec } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Clock, Effect } from "effect"
import { type Step, stepper } from "../../Program.ts"
import { supervisedPort, runScript, canServe } from "./MemoryApp.ts"
import { runCheckout } from "../repo/MemoryCheckout.ts"
import type { CommandContext } from "./MemoryCommand.ts"
import { home, type MemoryFiles, resolve } from "./MemoryFiles.ts"
import { MemoryListener } from "./MemoryListener.ts"

const utf8 = new TextEncoder()

/** The sandbox as a program sees it. */
export interface SandboxContext {
  readonly files: MemoryFiles
  /** Listeners by their port. */
  readonly listeners: Map<number, MemoryListener>
  /** Whether the sandbox has npm. */
  readonly registry: boolean
  /** Additional programs by their name; they override the built-in ones. */
  readonly programs: MemoryPrograms
}

/** A running program. */
export interface MemoryProcess extends SandboxContext {
  readonly command: CommandContext
  readonly spec: CommandSpec
  /** The working directory, as an absolute path. */
  readonly cwd: string
}

/** A program of a sandbox in memory: returns its exit code. A kill interrupts it. */
export type MemoryPrograms = Readonly<Record<string, (process: MemoryProcess) => Effect.Effect<number>>>

const variables = ({ spec }: MemoryProcess): Record<string, string> => ({ HOME: home, ...spec.env })

/** Listens on a port until it is interrupted. */
const listen = ({ command, listeners }: MemoryProcess, port: number, text: string) => {
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

/** The page of a dev server in memory. */
const page = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n"

/** Runs a script of an app's sandbox. */
const runNode = Effect.fnUntraced(function* (process: MemoryProcess) {
  const { command, cwd, files, spec } = process
  const port = supervisedPort(spec.args)
  if (port !== undefined) {
    while (!canServe({ files, cwd, now: 0 })) yield* Effect.sleep(1000)
    return yield* listen(process, port, page)
  }
  const printed = runScript({ files, cwd, now: yield* Clock.currentTimeMillis }, spec.args)
  command.print(printed === undefined ? "stderr" : "stdout", utf8.encode(printed ?? "node: no such script\n"))
  return printed === undefined ? 1 : 0
})

/** Runs a step; returns an exit code if the step ends the program. */
const runStep = Effect.fnUntraced(function* (process: MemoryProcess, step: Step) {
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
    case "Link":
      return void files.link(resolve(cwd, step.path), step.target, now)
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

const runSteps = Effect.fnUntraced(function* (process: MemoryProcess, steps: ReadonlyArray<Step>) {
  for (const step of steps) {
    const code = yield* runStep(process, step)
    if (code !== undefined) return code
  }
  return 0
})

/** Prints a line and exits with 0. */
const printLine = ({ command }: MemoryProcess, words: string) =>
  Effect.sync(() => {
    command.print("stdout", utf8.encode(`${words}\n`))
    return 0
  })

/**
 * The built-in programs: `steps`, `echo`, `sleep`, `true`, `false`, `sh` for the scripts of checkouts, and `node` for the
 * scripts of apps.
 */
const builtIn: MemoryPrograms = {
  [stepper]: (process) => runSteps(process, JSON.parse(process.spec.args[0] ?? "[]")),
  echo: (process) => printLine(process, process.spec.args.join(" ")),
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
  true: () => Effect.succeed(0),
  false: () => Effect.succeed(1)
}

/** Prints its version. */
const npm = (process: MemoryProcess) => printLine(process, "12.2.0")

/** Why a program cannot run. Files of a sandbox in memory are never executable. */
const failureOf = ({ files }: SandboxContext, command: string, cwd: string): StartFailure => {
  if (!command.includes("/")) return "command_not_found"
  const path = resolve(cwd, command)
  if (files.isDirectory(path)) return "command_is_directory"
  return files.read(path) === undefined ? "command_not_found" : "command_not_executable"
}

/** Runs a program and returns its exit code; fails if the program cannot run. */
export const execute = (
  command: CommandContext,
  context: SandboxContext,
  spec: CommandSpec
): Effect.Effect<number, StartFailure> =>
  Effect.suspend(() => {
    const { files, programs, registry } = context
    const cwd = resolve(home, spec.cwd ?? home)
    if (!files.isDirectory(cwd)) {
      return Effect.fail(files.read(cwd) === undefined ? ("cwd_not_found" as const) : ("cwd_not_directory" as const))
    }
    const all = new Map(Object.entries({ ...builtIn, ...(registry ? { npm } : {}), ...programs }))
    return (
      all.get(spec.command)?.({ ...context, command, spec, cwd }) ?? Effect.fail(failureOf(context, spec.command, cwd))
    )
  })
