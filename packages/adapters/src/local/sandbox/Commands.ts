/** Runs commands whose state is in files: a crash of the server loses neither their output nor their end. */
import {
  CommandEnd,
  type CommandId,
  type OutputPosition,
  StartedCommand,
  type StartFailure
} from "@castellan/domain/sandbox/Command.ts"
import { CommandNotFound, type CommandSpec, SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { DateTime, Duration, Effect, Stream } from "effect"
import { chownSync, existsSync, mkdirSync, statSync, writeFileSync } from "node:fs"
import { readdir, rm, writeFile } from "node:fs/promises"
import { isAbsolute, join } from "node:path"
import { outputBlockSize, startFailureOf, startScript, maxStartRecord } from "../../sandbox/CommandStart.ts"
import { abortableStream } from "../../sandbox/abortableStream.ts"
import type { Isolation, RunningSandbox } from "../isolation/Isolation.ts"
import { commandPath } from "../isolation/rootFiles.ts"
import { attempt, attemptSync } from "../process/attempt.ts"
import { isAlive, parseStat } from "../process/processes.ts"
import { run, runUntil } from "../process/Spawner.ts"
import { readJson, readPrefix, readText, writeJsonAtomically } from "../storage/files.ts"
import type { SandboxLayout } from "../storage/Layout.ts"
import { follow, pollEvery, watchDirectory } from "./Output.ts"
import { kill as killScript, wrap } from "./scripts.ts"

/** The command as `spec.json` in its directory stores it. */
export interface StoredCommand {
  readonly id: CommandId
  /** Epoch milliseconds, as `deadline`. */
  readonly startedAt: number
  readonly deadline: number
}

/** The variables that mark the processes of a command, so that those that left its process tree are found too. */
const commandMark = "CASTELLAN_COMMAND"
const sandboxMark = "CASTELLAN_SANDBOX"

/** A shell makes its background processes ignore interrupts. The command must not; only GNU's `env` can undo it. */
const defaultSignals = process.platform === "linux" ? ["--default-signal"] : []

/** How often a command is killed until it has ended, and the milliseconds between two attempts. */
const killAttempts = 200
const killEvery = 50

const marksOf = (sandbox: RunningSandbox, id: CommandId) => [
  `${commandMark}=${id}`,
  `${sandboxMark}=${sandbox.record.name}`
]

/** Why the program of a command that has ended never ran; undefined if it did. */
const readStartFailure = (directory: string) => {
  const record = readPrefix(join(directory, "start"), maxStartRecord)
  return record === undefined ? undefined : startFailureOf(record)
}

/** How a command ended, by the word and exit code that its wrapper wrote. A kill that came too late does not count. */
const endedBy = (directory: string, word: string, code: number): Pick<CommandEnd, "by" | "failure"> => {
  const failure = readStartFailure(directory)
  if (word === "lost" && (code === 137 || failure === "command_not_started")) return { by: "lost" }
  const bySignal = code > 128
  if (bySignal && existsSync(join(directory, "killed"))) return { by: "killed" }
  if (bySignal && existsSync(join(directory, "timedOut"))) return { by: "timedOut" }
  return failure === undefined ? { by: "exited" } : { by: "unstarted", failure }
}

/** How the command ended; undefined while it runs. It is lost if its wrapper ended without writing an end. */
const readEnd = (directory: string): CommandEnd | undefined => {
  const exit = readText(join(directory, "exit"))
  // The file is empty for a moment.
  if (exit !== undefined && exit !== "") {
    const [word = "", code = ""] = exit.trim().split(" ")
    const at = statSync(join(directory, "exit")).mtimeMs
    return new CommandEnd({
      ...endedBy(directory, word, Number(code)),
      exitCode: Number(code),
      at: DateTime.makeUnsafe(Math.floor(at))
    })
  }
  const line = readText(join(directory, "begun", "stat"))
  const wrapper = line === undefined ? undefined : parseStat(line)
  if (wrapper === undefined || isAlive(wrapper) || readText(join(directory, "exit"))) return undefined
  return new CommandEnd({
    by: "lost",
    exitCode: 137,
    at: DateTime.makeUnsafe(Math.floor(statSync(join(directory, "begun")).mtimeMs))
  })
}

const toStarted = (command: StoredCommand, end: CommandEnd | undefined) =>
  new StartedCommand({ id: command.id, startedAt: DateTime.makeUnsafe(command.startedAt), end: end ?? null })

const isForgotten = (directory: string) => !existsSync(join(directory, "spec.json"))

const getStored = Effect.fnUntraced(function* (files: SandboxLayout, id: CommandId) {
  const stored = yield* attemptSync("command", () => readJson<StoredCommand>(join(files.command(id), "spec.json")))
  return stored ?? (yield* new CommandNotFound({ id }))
})

const find = Effect.fnUntraced(function* (files: SandboxLayout, id: CommandId) {
  const command = yield* getStored(files, id)
  return toStarted(command, yield* attemptSync("command", () => readEnd(files.command(id))))
})

/** Waits until `read` returns a result. Calls it again whenever something in the directory changes. */
const waitFor = <A>(directory: string, read: () => A | undefined) =>
  attempt("command", async (signal) => {
    const changes = watchDirectory(directory, signal)
    try {
      while (!signal.aborted) {
        const result = read()
        if (result !== undefined) return result
        await changes.next(pollEvery)
      }
      throw new Error("interrupted")
    } finally {
      changes.close()
    }
  })

/** Waits for the command's end. Fails with `CommandNotFound` if the command was deleted meanwhile. */
const wait = Effect.fnUntraced(function* (files: SandboxLayout, id: CommandId) {
  const command = yield* getStored(files, id)
  const directory = files.command(id)
  const end = yield* waitFor(directory, () => readEnd(directory) ?? (isForgotten(directory) ? null : undefined))
  return end === null ? yield* new CommandNotFound({ id }) : toStarted(command, end)
})

const output = (files: SandboxLayout, id: CommandId, from: OutputPosition) => {
  const isOver = (directory: string) => readEnd(directory) !== undefined || isForgotten(directory)
  const stream = abortableStream(
    (signal) => follow(files.command(id), from, isOver, signal),
    (cause) => new SandboxUnavailable({ operation: "output", retryable: true, cause })
  )
  return Stream.unwrap(Effect.as(getStored(files, id), stream))
}

/** Removes the files of a command that has ended. */
const forget = (files: SandboxLayout, id: CommandId) =>
  attempt("forget", async () => {
    const directory = files.command(id)
    if (readEnd(directory) !== undefined) await rm(directory, { recursive: true, force: true })
  })

/** The commands of a sandbox that have not ended. */
const unfinished = (files: SandboxLayout) =>
  attempt("commands", async () => {
    const ids = await readdir(files.commands).catch(() => [])
    const commands = ids
      .filter((id) => !existsSync(join(files.commands, id, "exit")))
      .map((id) => readJson<StoredCommand>(join(files.commands, id, "spec.json")))
    return commands.filter((command) => command !== undefined)
  })

/** Records that a command ended before its wrapper could start. */
const recordStartFailure = (directory: string, failure: StartFailure) =>
  attemptSync("start", () => {
    mkdirSync(join(directory, "begun"), { recursive: true })
    writeFileSync(join(directory, "start"), `refused ${failure}\n`)
    writeFileSync(join(directory, "drained"), "")
    writeFileSync(join(directory, "exit"), "exited 126\n")
  })

/** Creates the directory of a command, with its output files. */
const createDirectory = (directory: string, command: StoredCommand, user: number | false) =>
  attempt("start", async () => {
    mkdirSync(directory, { recursive: true })
    for (const stream of ["out", "err"]) writeFileSync(join(directory, stream), "", { flag: "a" })
    if (user !== false) for (const entry of ["", "out", "err"]) chownSync(join(directory, entry), user, user)
    await writeJsonAtomically(join(directory, "spec.json"), command)
  })

/** The arguments that run a command's program inside. */
const programOf = (
  sandbox: RunningSandbox,
  home: string,
  spec: CommandSpec,
  variables: Readonly<Record<string, string>>
): ReadonlyArray<string> => {
  const cwd = spec.cwd === null ? home : isAbsolute(spec.cwd) ? spec.cwd : `${home}/${spec.cwd}`
  const env = {
    HOME: home,
    USER: "user",
    LOGNAME: "user",
    SHELL: "/bin/sh",
    PATH: commandPath,
    ...variables,
    ...spec.env,
    [sandboxMark]: sandbox.record.name,
    [commandMark]: spec.id
  }
  const assignments = Object.entries(env).map(([name, value]) => `${name}=${value}`)
  const shell = ["/bin/sh", "-c", startScript, "sh"]
  return ["env", ...defaultSignals, "--", ...assignments, ...shell, cwd, spec.command, ...spec.args]
}

/** `outputKept` is the limit of each output stream in bytes, a multiple of `outputBlockSize`. */
export const make = (isolation: Isolation, outputKept: number) => {
  /**
   * Starts a command unless it was started before. `variables` are the environment that the sandbox adds to the command's.
   * `now` is in epoch milliseconds.
   */
  const start = Effect.fnUntraced(function* (
    sandbox: RunningSandbox,
    spec: CommandSpec,
    now: number,
    variables: Readonly<Record<string, string>>
  ) {
    const directory = sandbox.files.command(spec.id)
    const user = isolation.userOf(sandbox.record)
    const stored = yield* attemptSync("start", () => readJson<StoredCommand>(join(directory, "spec.json")))
    if (stored !== undefined && existsSync(join(directory, "begun"))) {
      return toStarted(stored, yield* attemptSync("start", () => readEnd(directory)))
    }
    const deadline = now + Duration.toMillis(spec.timeout)
    const command: StoredCommand = stored ?? { id: spec.id, startedAt: now, deadline }
    yield* createDirectory(directory, command, user)
    const seconds = Math.max(0.001, (command.deadline - now) / 1000)
    const limits = [Math.floor(outputKept / outputBlockSize), sandbox.init.pid, seconds].map(String)
    const wrapper = ["sh", "-c", wrap, "wrap", ...limits, ...marksOf(sandbox, spec.id)]
    const enter = isolation.enterCommand(sandbox.files, sandbox.init)
    const program = programOf(sandbox, isolation.homeDirectory(sandbox.files), spec, variables)
    const { code, errno, stderr } = yield* runUntil(
      "start",
      { command: [...wrapper, ...enter, ...program], cwd: directory, user },
      "started"
    )
    if (code === 0) return toStarted(command, undefined)
    if (errno !== "E2BIG") {
      return yield* new SandboxUnavailable({ operation: "start", retryable: false, cause: stderr })
    }
    yield* recordStartFailure(directory, "arguments_too_long")
    return toStarted(command, yield* attemptSync("start", () => readEnd(directory)))
  })

  /** Kills a command and everything that it started. Stores the reason first. */
  const kill = Effect.fnUntraced(function* (sandbox: RunningSandbox, id: CommandId, reason: "killed" | "timedOut") {
    yield* getStored(sandbox.files, id)
    const directory = sandbox.files.command(id)
    const hasEnded = Effect.map(
      attemptSync("kill", () => readEnd(directory)),
      (end) => end !== undefined
    )
    if (yield* hasEnded) return
    yield* attempt("kill", () => writeFile(join(directory, reason), ""))
    // A wrapper that starts from now on reads the reason and kills its command.
    if (!existsSync(join(directory, "begun"))) return
    const script = ["sh", "-c", killScript, "kill", String(sandbox.init.pid), ...marksOf(sandbox, id)]
    for (let index = 0; index < killAttempts; index++) {
      // A script that could not be started is started again in the next attempt.
      yield* Effect.ignore(run("kill", script, { cwd: directory, user: isolation.userOf(sandbox.record) }))
      if (yield* hasEnded) return
      yield* Effect.sleep(killEvery)
    }
    return yield* new SandboxUnavailable({ operation: "kill", retryable: true, cause: "the command did not end" })
  })

  return { find, start, wait, output, kill, forget, unfinished }
}
