/** Commands by Castellan's own ids. Their state is in files inside the sandbox, where every server finds it. */
import {
  CommandEnd,
  type CommandId,
  type Output,
  OutputPosition,
  StartedCommand
} from "@castellan/domain/sandbox/Command.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import {
  CommandNotFound,
  type CommandSpec,
  type SandboxGone,
  type SandboxUnavailable
} from "@castellan/domain/sandbox/SandboxProvider.ts"
import { DateTime, Duration, Effect, Option, Schedule, type Scope, Stream } from "effect"
import { outputBlockSize, parseStartFailure, startScript } from "../sandbox/CommandStart.ts"
import {
  awaitCommand,
  commandVariable,
  enterAndExec,
  followOutput,
  forgetCommand,
  inspectCommand,
  killCommand,
  runCommand,
  variablePrefix
} from "./guestScripts.ts"
import { RequestFailed, unavailable } from "./RequestFailed.ts"
import { isRequestFailed, isSessionOver, type ReadableVm, type SandboxVms } from "./SandboxVms.ts"
import { isStreamCut, type ScriptResult, type ScriptRunner } from "./ScriptRunner.ts"

const endKinds: ReadonlyArray<string> = ["exited", "killed", "timedOut", "unstarted"]

/** Takes the first 13 digits as epoch milliseconds: some `date` programs print nanoseconds for `%3N`. */
const parseMillis = (text: string | undefined): DateTime.Utc =>
  DateTime.makeUnsafe(Number(/^\d{1,13}/.exec(text ?? "")?.[0] ?? 0))

/** Reads the record of a command. The sandbox's user may have changed it, so every text yields some value. */
const parseRecord = (
  id: CommandId,
  { lines }: ScriptResult,
  vm: Pick<ReadableVm, "lostAt" | "runningSession">
): StartedCommand | undefined => {
  const begun = lines.find((line) => line.startsWith("begun "))?.split(" ")
  if (begun === undefined) return undefined
  const [, session, at] = begun
  const startedAt = parseMillis(at)
  const [, kind, code, endedAt, why] = lines.find((line) => line.startsWith("ended "))?.split(" ") ?? []
  const by = endKinds.find((one) => one === kind) as CommandEnd["by"] | undefined
  if (by !== undefined && /^\d{1,3}$/.test(code ?? "")) {
    const failure = by === "unstarted" ? { failure: parseStartFailure(why) } : {}
    const end = new CommandEnd({ by, exitCode: Number(code), at: parseMillis(endedAt), ...failure })
    return new StartedCommand({ id, startedAt, end })
  }
  const isLost = session !== vm.runningSession
  const end = isLost ? new CommandEnd({ by: "lost", exitCode: 137, at: DateTime.makeUnsafe(vm.lostAt) }) : null
  return new StartedCommand({ id, startedAt, end })
}

/** The argument vector that runs a command in its directory, and the environment that passes its variables. */
const invocationOf = ({ args, command, cwd, env, id }: CommandSpec, home: string) => {
  const variables = Object.entries({ HOME: home, ...env, [commandVariable]: id })
  const program = ["/bin/sh", "-c", startScript, "sh", cwd ?? ".", command, ...args]
  return {
    vector: ["sh", "-c", enterAndExec, "sh", home, String(variables.length), ...program],
    env: Object.fromEntries(variables.map(([name, value], index) => [`${variablePrefix}${index}`, `${name}=${value}`]))
  }
}

/** How far the output of a command was read, and whether that was all of it. */
interface OutputProgress {
  position: OutputPosition
  isOver: boolean
}

const parseOutput = (position: OutputPosition, line: string): Output | undefined => {
  const [word, base64] = line.split(" ")
  if ((word !== "out" && word !== "err") || base64 === undefined) return undefined
  const stream = word === "out" ? "stdout" : "stderr"
  const bytes = Uint8Array.from(Buffer.from(base64, "base64"))
  return { stream, bytes, next: new OutputPosition({ ...position, [stream]: position[stream] + bytes.length }) }
}

/** Reads output by one script run, and records the progress for the next run should this one be cut off. */
const readOutput = (
  vms: SandboxVms,
  scripts: ScriptRunner,
  name: SandboxName,
  id: CommandId,
  progress: OutputProgress
) =>
  Stream.unwrap(
    Effect.gen(function* (): Effect.fn.Return<
      Stream.Stream<Output, RequestFailed | CommandNotFound>,
      RequestFailed | SandboxGone | SandboxUnavailable,
      Scope.Scope
    > {
      const { discard, runningSession, session } = yield* vms.readable("output", name)
      const { stderr, stdout } = progress.position
      const args = [name, id, String(stdout), String(stderr), runningSession ?? "none"]
      return scripts.lines("output", session, followOutput, args).pipe(
        Stream.tapError((failure) => (isSessionOver(failure) ? discard : Effect.void)),
        Stream.mapEffect((line) =>
          Effect.gen(function* () {
            if (line === "none") return yield* new CommandNotFound({ id })
            if (line === "end") progress.isOver = true
            const output = parseOutput(progress.position, line)
            if (output === undefined) return []
            progress.position = output.next
            return [output]
          })
        ),
        Stream.flatMap(Stream.fromIterable)
      )
    })
  )

/** Whether reading output may be resumed after this error. */
const canResume = (error: unknown): error is RequestFailed =>
  isRequestFailed(error) && (isStreamCut(error) || isSessionOver(error) || error.fault === "no_answer")

/** Failures in a row, without output in between, after which a reader of output gets the failure. */
const maxOutputFailures = 4

/** The output of a command from a position on, across script runs that are cut off. */
const outputFrom = (vms: SandboxVms, scripts: ScriptRunner, name: SandboxName, id: CommandId, start: OutputPosition) =>
  Stream.suspend(() => {
    const progress: OutputProgress = { position: start, isOver: false }
    let failures = 0
    const oneRun = Stream.suspend(() => {
      const before = progress.position
      return Stream.catchIf(readOutput(vms, scripts, name, id, progress), canResume, (failure) => {
        failures = progress.position === before ? failures + 1 : 0
        return failures > maxOutputFailures
          ? Stream.fail(failure)
          : Stream.fromEffectDrain(Effect.sleep(Duration.millis(100 * 2 ** failures)))
      })
    })
    return Stream.paginate(undefined, () =>
      Effect.sync(() =>
        progress.isOver ? ([[], Option.none()] as const) : ([[oneRun], Option.some(undefined)] as const)
      )
    ).pipe(
      Stream.flatMap((run) => run),
      Stream.catchIf(isRequestFailed, (failure) => Stream.fail(unavailable("output")(failure)))
    )
  })

/** `outputKept` is how many bytes of each output stream are kept. */
export const make = (vms: SandboxVms, scripts: ScriptRunner, outputKept: number) => {
  const blocks = String(Math.floor(outputKept / outputBlockSize))

  const start = (name: SandboxName, spec: CommandSpec) =>
    vms.useRunning("start", name, (session) =>
      Effect.gen(function* () {
        const seconds = String(Math.max(0.001, Duration.toMillis(spec.timeout) / 1000))
        const { env, vector } = invocationOf(spec, session.cwd)
        const args = [name, spec.id, session.sessionId, blocks, seconds, ...vector]
        // Retrying is safe: the script starts an id once, and a second call prints the record of the first.
        const result = yield* scripts
          .runInBackground("start", session, runCommand, args, env)
          .pipe(Effect.retry({ times: 2, while: (failure) => isStreamCut(failure) && !failure.isOver }))
        const record = parseRecord(spec.id, result, { runningSession: session.sessionId, lostAt: Date.now() })
        if (record !== undefined) return record
        const cause = new Error(`start: the command did not start (exit ${result.code})`)
        return yield* new RequestFailed({ status: null, code: null, retryable: true, cause })
      })
    )

  const readRecord = (operation: string, name: SandboxName, id: CommandId, run: ScriptRunner["run"], script: string) =>
    vms.useReadable(operation, name, (vm) =>
      Effect.gen(function* () {
        const result = yield* run(operation, vm.session, script, name, id, vm.runningSession ?? "none")
        return parseRecord(id, result, vm) ?? (yield* new CommandNotFound({ id }))
      })
    )

  const command = (name: SandboxName, id: CommandId) => readRecord("command", name, id, scripts.run, inspectCommand)

  const wait = Effect.fnUntraced(function* (name: SandboxName, id: CommandId) {
    while (true) {
      // A silent script may only have lost its connection.
      const record = yield* readRecord("wait", name, id, scripts.runUnbounded, awaitCommand).pipe(
        Effect.retry({ times: 3, while: (error) => error._tag === "SandboxUnavailable" && error.fault === "no_answer" })
      )
      if (record.end !== null) return record
    }
  })

  const kill = (name: SandboxName, id: CommandId) =>
    Effect.gen(function* () {
      const vm = yield* vms.find("kill", name)
      if (vm.status !== "running") return yield* Effect.asVoid(command(name, id))
      const session = vm.currentSession()
      const result = yield* scripts.run("kill", session, killCommand, name, id, session.sessionId)
      if (result.lines.includes("none")) return yield* new CommandNotFound({ id })
      if (result.code !== 0) {
        const cause = new Error("kill: a process of the command could not be ended")
        return yield* new RequestFailed({ status: null, code: null, retryable: true, cause })
      }
    }).pipe(
      Effect.retry({
        times: 4,
        schedule: Schedule.exponential("250 millis"),
        while: (error) => isRequestFailed(error) && isSessionOver(error)
      }),
      Effect.catchIf(isRequestFailed, (failure) => Effect.fail(unavailable("kill")(failure)))
    )

  const forget = (name: SandboxName, id: CommandId) =>
    vms
      .useRunning("forget", name, (session) => scripts.run("forget", session, forgetCommand, name, id))
      .pipe(Effect.asVoid, Effect.catchTags({ SandboxGone: () => Effect.void, SandboxNotRunning: () => Effect.void }))

  return {
    start,
    command,
    wait,
    output: (name: SandboxName, id: CommandId, position: OutputPosition) =>
      outputFrom(vms, scripts, name, id, position),
    kill,
    forget
  }
}
