/** Commands by our own ids: what is known of them is in files inside the sandbox, for any server to find. */
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
import { type ScriptRunner, isStreamCut, type ScriptResult } from "./ScriptRunner.ts"
import { isSessionOver, isRequestFailed, type SandboxVms, type ReadableVm } from "./SandboxVms.ts"
import { RequestFailed, unavailable } from "./RequestFailed.ts"
import {
  forgetCommand,
  followOutput,
  enterAndExec,
  killCommand as killScript,
  inspectCommand,
  commandVariable,
  variablePrefix,
  awaitCommand,
  runCommand
} from "./guestScripts.ts"

const ends: ReadonlyArray<string> = ["exited", "killed", "timedOut", "unstarted"]

/** Milliseconds, whatever follows them: not every `date` cuts what comes after the seconds to three digits. */
const timeOf = (text: string | undefined): DateTime.Utc =>
  DateTime.makeUnsafe(Number(/^\d{1,13}/.exec(text ?? "")?.[0] ?? 0))

/** What is written down of a command. The sandbox's user may have changed it: anything is taken for something. */
const recordOf = (
  id: CommandId,
  { lines }: ScriptResult,
  seen: Pick<ReadableVm, "lostAt" | "runs">
): StartedCommand | undefined => {
  const begun = lines.find((line) => line.startsWith("begun "))?.split(" ")
  if (begun === undefined) return undefined
  const [, session, at] = begun
  const startedAt = timeOf(at)
  const [, by, code, endedAt, why] = lines.find((line) => line.startsWith("ended "))?.split(" ") ?? []
  const known = ends.find((one) => one === by) as CommandEnd["by"] | undefined
  if (known !== undefined && /^\d{1,3}$/.test(code ?? "")) {
    const failure = known === "unstarted" ? { failure: parseStartFailure(why) } : {}
    const end = new CommandEnd({ by: known, exitCode: Number(code), at: timeOf(endedAt), ...failure })
    return new StartedCommand({ id, startedAt, end })
  }
  const isLost = session !== seen.runs
  const end = isLost ? new CommandEnd({ by: "lost", exitCode: 137, at: DateTime.makeUnsafe(seen.lostAt) }) : null
  return new StartedCommand({ id, startedAt, end })
}

/** How a program is called that runs in the sandbox: by what enters its directory and sets its variables. */
const called = ({ args, command, cwd, env, id }: CommandSpec, home: string) => {
  const variables = Object.entries({ HOME: home, ...env, [commandVariable]: id }).map(
    ([name, value]) => `${name}=${value}`
  )
  const program = ["/bin/sh", "-c", startScript, "sh", cwd ?? ".", command, ...args]
  return {
    vector: ["sh", "-c", enterAndExec, "sh", home, String(variables.length), ...program],
    env: Object.fromEntries(variables.map((word, index) => [`${variablePrefix}${index}`, word]))
  }
}

export const make = (machines: SandboxVms, inside: ScriptRunner, outputKept: number) => {
  const blocks = String(Math.floor(outputKept / outputBlockSize))

  const start = (name: SandboxName, spec: CommandSpec) =>
    machines.inRunning("start", name, (session) =>
      Effect.gen(function* () {
        const seconds = String(Math.max(0.001, Duration.toMillis(spec.timeout) / 1000))
        const { env, vector } = called(spec, session.cwd)
        const args = [name, spec.id, session.sessionId, blocks, seconds, ...vector]
        // An answer that is lost is no matter: what is begun twice runs once, and the second tells of the first.
        const said = yield* inside
          .leave("start", session, runCommand, args, env)
          .pipe(Effect.retry({ times: 2, while: (refusal) => isStreamCut(refusal) && !refusal.isOver }))
        const record = recordOf(spec.id, said, { runs: session.sessionId, lostAt: Date.now() })
        if (record !== undefined) return record
        const cause = new Error(`start: it did not begin (exit ${said.code})`)
        return yield* new RequestFailed({ status: null, code: null, retryable: true, cause })
      })
    )

  const found = Effect.fnUntraced(function* (id: CommandId, record: StartedCommand | undefined) {
    return record ?? (yield* new CommandNotFound({ id }))
  })

  const asked = (operation: string, name: SandboxName, id: CommandId, ask: ScriptRunner["run"], script: string) =>
    machines.reading(operation, name, (seen) =>
      Effect.flatMap(ask(operation, seen.session, script, name, id, seen.runs ?? "none"), (said) =>
        found(id, recordOf(id, said, seen))
      )
    )

  const command = (name: SandboxName, id: CommandId) => asked("command", name, id, inside.run, inspectCommand)

  const wait = Effect.fnUntraced(function* (name: SandboxName, id: CommandId) {
    while (true) {
      // A script that is silent may only have lost its connection.
      const record = yield* asked("wait", name, id, inside.wait, awaitCommand).pipe(
        Effect.retry({ times: 3, while: (error) => error._tag === "SandboxUnavailable" && error.fault === "no_answer" })
      )
      if (record.end !== null) return record
    }
  })

  const pieceOf = (at: OutputPosition, line: string): Output | undefined => {
    const [word, base64] = line.split(" ")
    if ((word !== "out" && word !== "err") || base64 === undefined) return undefined
    const stream = word === "out" ? "stdout" : "stderr"
    const bytes = Uint8Array.from(Buffer.from(base64, "base64"))
    return { stream, bytes, next: new OutputPosition({ ...at, [stream]: at[stream] + bytes.length }) }
  }

  /** The output as one script tells it; what was read tells where to go on if that is cut off. */
  const followed = (name: SandboxName, id: CommandId, from: { at: OutputPosition; isOver: boolean }) =>
    Stream.unwrap(
      Effect.gen(function* (): Effect.fn.Return<
        Stream.Stream<Output, RequestFailed | CommandNotFound>,
        RequestFailed | SandboxGone | SandboxUnavailable,
        Scope.Scope
      > {
        const { giveUp, runs, session } = yield* machines.seen("output", name)
        const args = [name, id, String(from.at.stdout), String(from.at.stderr), runs ?? "none"]
        return inside.lines("output", session, followOutput, args).pipe(
          Stream.tapError((refusal) => (isSessionOver(refusal) ? giveUp : Effect.void)),
          Stream.mapEffect((line) =>
            Effect.gen(function* () {
              if (line === "none") return yield* new CommandNotFound({ id })
              if (line === "end") from.isOver = true
              const piece = pieceOf(from.at, line)
              if (piece === undefined) return []
              from.at = piece.next
              return [piece]
            })
          ),
          Stream.flatMap(Stream.fromIterable)
        )
      })
    )

  const mayGoOn = (error: unknown): error is RequestFailed =>
    isRequestFailed(error) && (isStreamCut(error) || isSessionOver(error) || error.fault === "no_answer")

  const output = (name: SandboxName, id: CommandId, start: OutputPosition) =>
    Stream.suspend(() => {
      const from = { at: start, isOver: false }
      let failures = 0
      // A stretch that gave something puts an end to the failures before it.
      const stretch = Stream.suspend(() => {
        const before = from.at
        return Stream.catchIf(followed(name, id, from), mayGoOn, (refusal) => {
          failures = from.at === before ? failures + 1 : 0
          return failures > 4
            ? Stream.fail(refusal)
            : Stream.fromEffectDrain(Effect.sleep(Duration.millis(100 * 2 ** failures)))
        })
      })
      return Stream.paginate(undefined, () =>
        Effect.sync(() =>
          from.isOver ? ([[], Option.none()] as const) : ([[stretch], Option.some(undefined)] as const)
        )
      ).pipe(
        Stream.flatMap((one) => one),
        Stream.catchIf(isRequestFailed, (refusal) => Stream.fail(unavailable("output")(refusal)))
      )
    })

  const kill = (name: SandboxName, id: CommandId) =>
    Effect.gen(function* () {
      const vm = yield* machines.find("kill", name)
      if (vm.status !== "running") return yield* Effect.asVoid(command(name, id))
      const session = vm.currentSession()
      const said = yield* inside.run("kill", session, killScript, name, id, session.sessionId)
      if (said.lines.includes("none")) return yield* new CommandNotFound({ id })
      if (said.code !== 0) {
        const cause = new Error("kill: something of the command can't be ended")
        return yield* new RequestFailed({ status: null, code: null, retryable: true, cause })
      }
    }).pipe(
      Effect.retry({
        times: 4,
        schedule: Schedule.exponential("250 millis"),
        while: (error) => isRequestFailed(error) && isSessionOver(error)
      }),
      Effect.catchIf(isRequestFailed, (refusal) => Effect.fail(unavailable("kill")(refusal)))
    )

  const forget = (name: SandboxName, id: CommandId) =>
    machines
      .inRunning("forget", name, (session) => inside.run("forget", session, forgetCommand, name, id))
      .pipe(Effect.asVoid, Effect.catchTags({ SandboxGone: () => Effect.void, SandboxNotRunning: () => Effect.void }))

  return { start, command, wait, output, kill, forget }
}
