/** Commands as directories: what they print and how they end lies in files, so that a crash of the server loses none. */
import { type CommandId, CommandEnd, type OutputPosition, StartedCommand } from "@castellan/domain/sandbox/Command.ts"
import { CommandNotFound, type CommandSpec, SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { DateTime, Duration, Effect, Stream } from "effect"
import { chownSync, existsSync, mkdirSync, statSync, writeFileSync } from "node:fs"
import { readdir, rm, writeFile } from "node:fs/promises"
import { isAbsolute, join } from "node:path"
import { attempt, attemptNow, isAlive, parseStat } from "./Host.ts"
import { whileRead } from "../sandbox/whileRead.ts"
import type { Isolation } from "./Isolation.ts"
import { readJson, readText, type SandboxLayout, writeWhole } from "./Layout.ts"
import type { Running } from "./Machines.ts"
import { follow, lookAgain, watching } from "./Output.ts"
import { inside, killMarked, literally, path, wrap } from "./scripts.ts"
import { sandboxUid } from "./Spawn.ts"
import { run, spawned } from "./Spawner.ts"

interface StoredCommand {
  readonly id: CommandId
  /** Epoch milliseconds, as `deadline`. */
  readonly startedAt: number
  readonly deadline: number
}

/** The variable that marks a command's processes, so that those that left its session are found too. */
const mark = "CASTELLAN_COMMAND"

export const make = (isolation: Isolation, outputKept: number) => {
  const stored = Effect.fnUntraced(function* (files: SandboxLayout, id: CommandId) {
    const spec = yield* attemptNow("command", () => readJson<StoredCommand>(join(files.command(id), "spec.json")))
    return spec ?? (yield* new CommandNotFound({ id }))
  })

  const by = (directory: string, said: string, code: number): CommandEnd["by"] => {
    if (said === "lost") return "lost"
    const asked = code > 128
    if (asked && existsSync(join(directory, "killed"))) return "killed"
    if (asked && existsSync(join(directory, "timedOut"))) return "timedOut"
    return "exited"
  }

  /** How the command ended; undefined while it runs. One whose wrapper is gone without a word is lost. */
  const endOf = (directory: string): CommandEnd | undefined => {
    const exit = readText(join(directory, "exit"))
    if (exit !== undefined) {
      const [said = "", code = ""] = exit.trim().split(" ")
      const at = statSync(join(directory, "exit")).mtimeMs
      return new CommandEnd({
        by: by(directory, said, Number(code)),
        exitCode: Number(code),
        at: DateTime.makeUnsafe(Math.floor(at))
      })
    }
    const line = readText(join(directory, "begun", "stat"))
    const wrapper = line === undefined ? undefined : parseStat(line)
    if (wrapper === undefined || isAlive(wrapper) || existsSync(join(directory, "exit"))) return undefined
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
      CASTELLAN_SANDBOX: machine.spec.name,
      [mark]: spec.id
    }
    const assignments = Object.entries(env).map(([name, value]) => `${name}=${value}`)
    const program = spec.command.includes("=") ? ["sh", "-c", literally, "sh", spec.command] : [spec.command]
    return ["sh", "-c", inside, "sh", cwd, ...assignments, ...program, ...spec.args]
  }

  /** `variables` are what the sandbox's commands have beside their own. */
  const start = Effect.fnUntraced(function* (
    machine: Running,
    spec: CommandSpec,
    now: number,
    variables: Readonly<Record<string, string>>
  ) {
    const directory = machine.files.command(spec.id)
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
      if (isolation.drop) {
        for (const entry of ["", "out", "err"]) chownSync(join(directory, entry), sandboxUid, sandboxUid)
      }
      await writeWhole(join(directory, "spec.json"), command)
    })
    const wrapped = ["sh", "-c", wrap, "wrap", String(Math.floor(outputKept / 512)), String(machine.booted.init.pid)]
    const program = [...wrapped, ...isolation.enter(machine.files, machine.booted), ...vector(machine, spec, variables)]
    const { code, stderr } = yield* spawned(
      "start",
      { command: program, cwd: directory, drop: isolation.drop },
      "started"
    )
    if (code !== 0) return yield* new SandboxUnavailable({ operation: "start", retryable: false, cause: stderr })
    return toStarted(command, undefined)
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
        whileRead(
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

  const endMarked = (machine: Running, id: CommandId) =>
    run(
      "kill",
      [...isolation.enterAsRoot(machine.files, machine.booted), "sh", "-c", killMarked, "kill", `${mark}=${id}`],
      {
        cwd: "/",
        drop: isolation.drop
      }
    )

  /** Ends a command that runs and all it started, and writes down why before it does. */
  const kill = Effect.fnUntraced(function* (machine: Running, id: CommandId, why: "killed" | "timedOut") {
    yield* stored(machine.files, id)
    const directory = machine.files.command(id)
    const hasEnded = Effect.map(
      attemptNow("kill", () => endOf(directory)),
      (end) => end !== undefined
    )
    if (!(yield* hasEnded)) yield* attempt("kill", () => writeFile(join(directory, why), ""))
    for (let round = 0; round < 50; round++) {
      yield* endMarked(machine, id)
      if (yield* hasEnded) return
      yield* Effect.sleep("20 millis")
    }
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
