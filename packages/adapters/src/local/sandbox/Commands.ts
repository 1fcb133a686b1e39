/** Commands as directories: what they print and how they end lies in files, so that a crash of the server loses none. */
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
import { attempt, attemptNow, isAlive, parseStat } from "../process/Host.ts"
import { abortableStream } from "../../sandbox/abortableStream.ts"
import { outputBlockSize, startFailureOf, startScript, maxStartRecord } from "../../sandbox/CommandStart.ts"
import type { Isolation } from "../isolation/Isolation.ts"
import { readJson, readStart, readText, type SandboxLayout, writeWhole } from "./Layout.ts"
import type { Running } from "./Machines.ts"
import { follow, lookAgain, watching } from "./Output.ts"
import { kill as killScript, path, wrap } from "../isolation/scripts.ts"
import { run, spawned } from "../process/Spawner.ts"

interface StoredCommand {
  readonly id: CommandId
  /** Epoch milliseconds, as `deadline`. */
  readonly startedAt: number
  readonly deadline: number
}

/** The variables that mark a command's processes, so that those that left its tree are found too. */
const mark = "CASTELLAN_COMMAND"
const sandboxMark = "CASTELLAN_SANDBOX"

/** A shell makes its background processes ignore interrupts; the program must not. Only GNU's `env` can undo it. */
const defaultSignals = process.platform === "linux" ? ["--default-signal"] : []

/** What a host refuses for a while when it has too little of something. */
const passing: ReadonlyArray<string | undefined> = ["EAGAIN", "EMFILE", "ENFILE", "ENOMEM"]

/** How often, and how many milliseconds apart, a command that is to be ended is looked at. */
const killRounds = 200
const killEvery = 50

export const make = (isolation: Isolation, outputKept: number) => {
  const stored = Effect.fnUntraced(function* (files: SandboxLayout, id: CommandId) {
    const spec = yield* attemptNow("command", () => readJson<StoredCommand>(join(files.command(id), "spec.json")))
    return spec ?? (yield* new CommandNotFound({ id }))
  })

  /** Why the program of a command that has ended never ran; undefined if it did. */
  const failureOf = (directory: string) => {
    const record = readStart(join(directory, "start"), maxStartRecord)
    return record === undefined ? undefined : startFailureOf(record)
  }

  /** How the command ended, by what its wrapper wrote down. A kill that came too late changes nothing. */
  const by = (directory: string, said: string, code: number): Pick<CommandEnd, "by" | "failure"> => {
    const failure = failureOf(directory)
    if (said === "lost" && (code === 137 || failure === "command_not_started")) return { by: "lost" }
    const asked = code > 128
    if (asked && existsSync(join(directory, "killed"))) return { by: "killed" }
    if (asked && existsSync(join(directory, "timedOut"))) return { by: "timedOut" }
    return failure === undefined ? { by: "exited" } : { by: "unstarted", failure }
  }

  /** How the command ended; undefined while it runs. One whose wrapper is gone without a word is lost. */
  const endOf = (directory: string): CommandEnd | undefined => {
    const exit = readText(join(directory, "exit"))
    // It is empty for a moment.
    if (exit !== undefined && exit !== "") {
      const [said = "", code = ""] = exit.trim().split(" ")
      const at = statSync(join(directory, "exit")).mtimeMs
      return new CommandEnd({
        ...by(directory, said, Number(code)),
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

  const toStarted = (spec: StoredCommand, end: CommandEnd | undefined) =>
    new StartedCommand({ id: spec.id, startedAt: DateTime.makeUnsafe(spec.startedAt), end: end ?? null })

  const find = Effect.fnUntraced(function* (files: SandboxLayout, id: CommandId) {
    const spec = yield* stored(files, id)
    return toStarted(spec, yield* attemptNow("command", () => endOf(files.command(id))))
  })

  const vector = (
    machine: Running,
    spec: CommandSpec,
    variables: Readonly<Record<string, string>>
  ): ReadonlyArray<string> => {
    const home = isolation.home(machine.files)
    const cwd = spec.cwd === null ? home : isAbsolute(spec.cwd) ? spec.cwd : `${home}/${spec.cwd}`
    const env = {
      HOME: home,
      USER: "user",
      LOGNAME: "user",
      SHELL: "/bin/sh",
      PATH: path,
      ...variables,
      ...spec.env,
      [sandboxMark]: machine.spec.name,
      [mark]: spec.id
    }
    const assignments = Object.entries(env).map(([name, value]) => `${name}=${value}`)
    return [
      "env",
      ...defaultSignals,
      "--",
      ...assignments,
      "/bin/sh",
      "-c",
      startScript,
      "sh",
      cwd,
      spec.command,
      ...spec.args
    ]
  }

  const marksOf = (machine: Running, id: CommandId) => [`${mark}=${id}`, `${sandboxMark}=${machine.spec.name}`]

  /** Writes down that a command ended before its wrapper could begin. */
  const refuse = (directory: string, failure: StartFailure) =>
    attemptNow("start", () => {
      mkdirSync(join(directory, "begun"), { recursive: true })
      writeFileSync(join(directory, "start"), `refused ${failure}\n`)
      writeFileSync(join(directory, "drained"), "")
      writeFileSync(join(directory, "exit"), "exited 126\n")
    })

  /** `variables` are what the sandbox's commands have beside their own. */
  const start = Effect.fnUntraced(function* (
    machine: Running,
    spec: CommandSpec,
    now: number,
    variables: Readonly<Record<string, string>>
  ) {
    const directory = machine.files.command(spec.id)
    const user = isolation.userOf(machine.spec)
    const known = yield* attemptNow("start", () => readJson<StoredCommand>(join(directory, "spec.json")))
    if (known !== undefined && existsSync(join(directory, "begun"))) {
      return toStarted(known, yield* attemptNow("start", () => endOf(directory)))
    }
    const command: StoredCommand = known ?? {
      id: spec.id,
      startedAt: now,
      deadline: now + Duration.toMillis(spec.timeout)
    }
    yield* attempt("start", async () => {
      mkdirSync(directory, { recursive: true })
      for (const stream of ["out", "err"]) writeFileSync(join(directory, stream), "", { flag: "a" })
      if (user !== false) for (const entry of ["", "out", "err"]) chownSync(join(directory, entry), user, user)
      await writeWhole(join(directory, "spec.json"), command)
    })
    const seconds = Math.max(0.001, (command.deadline - now) / 1000)
    const limits = [Math.floor(outputKept / outputBlockSize), machine.booted.pid, seconds].map(String)
    const wrapped = ["sh", "-c", wrap, "wrap", ...limits, ...marksOf(machine, spec.id)]
    const program = [...wrapped, ...isolation.enter(machine.files, machine.booted), ...vector(machine, spec, variables)]
    const { code, errno, stderr } = yield* spawned("start", { command: program, cwd: directory, user }, "started")
    if (code === 0) return toStarted(command, undefined)
    if (errno !== "E2BIG") {
      const retryable = errno !== undefined && passing.includes(errno)
      return yield* new SandboxUnavailable({ operation: "start", retryable, cause: stderr })
    }
    yield* refuse(directory, "arguments_too_long")
    return toStarted(command, yield* attemptNow("start", () => endOf(directory)))
  })

  /** Looks at a command's directory whenever something in it changes, until `look` gives something. */
  const whenever = <A>(directory: string, look: () => A | undefined) =>
    attempt("command", async (signal) => {
      const changes = watching(directory, signal)
      try {
        while (!signal.aborted) {
          const seen = look()
          if (seen !== undefined) return seen
          await changes.next(lookAgain)
        }
        throw new Error("interrupted")
      } finally {
        changes.close()
      }
    })

  const isForgotten = (directory: string) => !existsSync(join(directory, "spec.json"))

  const wait = Effect.fnUntraced(function* (files: SandboxLayout, id: CommandId) {
    const spec = yield* stored(files, id)
    const directory = files.command(id)
    const end = yield* whenever(directory, () => endOf(directory) ?? (isForgotten(directory) ? null : undefined))
    return end === null ? yield* new CommandNotFound({ id }) : toStarted(spec, end)
  })

  const output = (files: SandboxLayout, id: CommandId, from: OutputPosition) =>
    Stream.unwrap(
      Effect.as(
        stored(files, id),
        abortableStream(
          (signal) =>
            follow(
              files.command(id),
              from,
              (directory) => endOf(directory) !== undefined || isForgotten(directory),
              signal
            ),
          (cause) => new SandboxUnavailable({ operation: "output", retryable: true, cause })
        )
      )
    )

  /** Ends a command that runs and all it started. Why it ends is written down before it does. */
  const kill = Effect.fnUntraced(function* (machine: Running, id: CommandId, why: "killed" | "timedOut") {
    yield* stored(machine.files, id)
    const directory = machine.files.command(id)
    const hasEnded = Effect.map(
      attemptNow("kill", () => endOf(directory)),
      (end) => end !== undefined
    )
    if (yield* hasEnded) return
    yield* attempt("kill", () => writeFile(join(directory, why), ""))
    // A wrapper that begins from now on finds that its command is to be killed.
    if (!existsSync(join(directory, "begun"))) return
    const script = ["sh", "-c", killScript, "kill", String(machine.booted.pid), ...marksOf(machine, id)]
    for (let round = 0; round < killRounds; round++) {
      yield* run("kill", script, { cwd: directory, user: isolation.userOf(machine.spec) })
      if (yield* hasEnded) return
      yield* Effect.sleep(killEvery)
    }
    return yield* new SandboxUnavailable({ operation: "kill", retryable: true, cause: "the command did not end" })
  })

  /** Removes what is kept of a command that has ended. */
  const forget = (files: SandboxLayout, id: CommandId) =>
    attempt("forget", async () => {
      const directory = files.command(id)
      if (endOf(directory) !== undefined) await rm(directory, { recursive: true, force: true })
    })

  /** The commands of a sandbox that have not ended, with their deadlines in epoch milliseconds. */
  const unfinished = (files: SandboxLayout) =>
    attempt("commands", async () => {
      const ids = await readdir(files.commands).catch(() => [])
      const all = ids
        .filter((id) => !existsSync(join(files.commands, id, "exit")))
        .map((id) => readJson<StoredCommand>(join(files.commands, id, "spec.json")))
      return all.filter((command) => command !== undefined)
    })

  return { find, start, wait, output, kill, forget, unfinished }
}
