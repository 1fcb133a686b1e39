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
import { outputBlock, startFailureIn, startProgram } from "../sandbox/Start.ts"
import { type Inside, isCut, type Said } from "./Inside.ts"
import { isPast, isRefusal, type Machines, type Seen } from "./Machines.ts"
import { Refusal, unavailable } from "./Refusal.ts"
import { drop, follow, inside, kill as killScript, look, mark, variable, watch, wrap } from "./scripts.ts"

const ends: ReadonlyArray<string> = ["exited", "killed", "timedOut", "unstarted"]

/** Milliseconds, whatever follows them: not every `date` cuts what comes after the seconds to three digits. */
const timeOf = (text: string | undefined): DateTime.Utc =>
  DateTime.makeUnsafe(Number(/^\d{1,13}/.exec(text ?? "")?.[0] ?? 0))

/** What is written down of a command. The sandbox's user may have changed it: anything is taken for something. */
const recordOf = (id: CommandId, { lines }: Said, seen: Pick<Seen, "lostAt" | "runs">): StartedCommand | undefined => {
  const begun = lines.find((line) => line.startsWith("begun "))?.split(" ")
  if (begun === undefined) return undefined
  const [, session, at] = begun
  const startedAt = timeOf(at)
  const [, by, code, endedAt, why] = lines.find((line) => line.startsWith("ended "))?.split(" ") ?? []
  const known = ends.find((one) => one === by) as CommandEnd["by"] | undefined
  if (known !== undefined && /^\d{1,3}$/.test(code ?? "")) {
    const failure = known === "unstarted" ? { failure: startFailureIn(why) } : {}
    const end = new CommandEnd({ by: known, exitCode: Number(code), at: timeOf(endedAt), ...failure })
    return new StartedCommand({ id, startedAt, end })
  }
  const isLost = session !== seen.runs
  const end = isLost ? new CommandEnd({ by: "lost", exitCode: 137, at: DateTime.makeUnsafe(seen.lostAt) }) : null
  return new StartedCommand({ id, startedAt, end })
}

/** How a program is called that runs in the sandbox: by what enters its directory and sets its variables. */
const called = ({ args, command, cwd, env, id }: CommandSpec, home: string) => {
  const variables = Object.entries({ HOME: home, ...env, [mark]: id }).map(([name, value]) => `${name}=${value}`)
  const program = ["/bin/sh", "-c", startProgram, "sh", cwd ?? ".", command, ...args]
  return {
    vector: ["sh", "-c", inside, "sh", home, String(variables.length), ...program],
    env: Object.fromEntries(variables.map((word, index) => [`${variable}${index}`, word]))
  }
}

export const make = (machines: Machines, inside: Inside, outputKept: number) => {
  const blocks = String(Math.floor(outputKept / outputBlock))

  const start = (name: SandboxName, spec: CommandSpec) =>
    machines.inRunning("start", name, (session) =>
      Effect.gen(function* () {
        const seconds = String(Math.max(0.001, Duration.toMillis(spec.timeout) / 1000))
        const { env, vector } = called(spec, session.cwd)
        const args = [name, spec.id, session.sessionId, blocks, seconds, ...vector]
        // An answer that is lost is no matter: what is begun twice runs once, and the second tells of the first.
        const said = yield* inside
          .leave("start", session, wrap, args, env)
          .pipe(Effect.retry({ times: 2, while: (refusal) => isCut(refusal) && !refusal.isOver }))
        const record = recordOf(spec.id, said, { runs: session.sessionId, lostAt: Date.now() })
        if (record !== undefined) return record
        const cause = new Error(`start: it did not begin (exit ${said.code})`)
        return yield* new Refusal({ status: null, code: null, retryable: true, cause })
      })
    )

  const found = Effect.fnUntraced(function* (id: CommandId, record: StartedCommand | undefined) {
    return record ?? (yield* new CommandNotFound({ id }))
  })

  const asked = (operation: string, name: SandboxName, id: CommandId, ask: Inside["run"], script: string) =>
    machines.reading(operation, name, (seen) =>
      Effect.flatMap(ask(operation, seen.session, script, name, id, seen.runs ?? "none"), (said) =>
        found(id, recordOf(id, said, seen))
      )
    )

  const command = (name: SandboxName, id: CommandId) => asked("command", name, id, inside.run, look)

  const wait = Effect.fnUntraced(function* (name: SandboxName, id: CommandId) {
    while (true) {
      // A script that is silent may only have lost its connection.
      const record = yield* asked("wait", name, id, inside.wait, watch).pipe(
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
        Stream.Stream<Output, Refusal | CommandNotFound>,
        Refusal | SandboxGone | SandboxUnavailable,
        Scope.Scope
      > {
        const { giveUp, runs, session } = yield* machines.seen("output", name)
        const args = [name, id, String(from.at.stdout), String(from.at.stderr), runs ?? "none"]
        return inside.lines("output", session, follow, args).pipe(
          Stream.tapError((refusal) => (isPast(refusal) ? giveUp : Effect.void)),
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

  const mayGoOn = (error: unknown): error is Refusal =>
    isRefusal(error) && (isCut(error) || isPast(error) || error.fault === "no_answer")

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
        Stream.catchIf(isRefusal, (refusal) => Stream.fail(unavailable("output")(refusal)))
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
        return yield* new Refusal({ status: null, code: null, retryable: true, cause })
      }
    }).pipe(
      Effect.retry({
        times: 4,
        schedule: Schedule.exponential("250 millis"),
        while: (error) => isRefusal(error) && isPast(error)
      }),
      Effect.catchIf(isRefusal, (refusal) => Effect.fail(unavailable("kill")(refusal)))
    )

  const forget = (name: SandboxName, id: CommandId) =>
    machines
      .inRunning("forget", name, (session) => inside.run("forget", session, drop, name, id))
      .pipe(Effect.asVoid, Effect.catchTags({ SandboxGone: () => Effect.void, SandboxNotRunning: () => Effect.void }))

  return { start, command, wait, output, kill, forget }
}
