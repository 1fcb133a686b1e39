/** Scripts that run in a sandbox: detached, so that a stream that is cut ends nothing, and ended with who waits for them. */
import type { Command, Session } from "@vercel/sandbox"
import { Duration, Effect, Option, Schedule, type Scope, Stream } from "effect"
import type { Api } from "./Api.ts"
import { scriptFault, RequestFailed } from "./RequestFailed.ts"
import { exitCodeIn } from "./guestScripts.ts"

/** What a script printed, and how it ended. */
export interface ScriptResult {
  readonly lines: ReadonlyArray<string>
  readonly code: number
}

/** What a script has that is left to itself. */
interface Left {
  readonly env: Record<string, string>
}

/** How long a script may run: longer than any of them does by itself. */
const scriptTimeout = Duration.toMillis(Duration.minutes(10))

/** How long a script that does not wait for anything may take, with its repetitions. */
export const scriptDeadline = Duration.minutes(2)

/** Characters of a line of a script, and of all lines of one whose answer is read as a whole. */
const longestLine = 1024 * 1024
const longestAnswer = 1024 * 1024

/** The code under which a stream is told that ended before its script said how. */
const cutShort = "castellan_cut_short"

/** Tries of a script whose answer was cut off: all of them may be repeated. */
const again = { times: 3, schedule: Schedule.exponential("100 millis") }

const short = (operation: string) =>
  new RequestFailed({
    status: null,
    code: cutShort,
    retryable: true,
    cause: new Error(`${operation}: the stream ended before the script did`)
  })

/** Whether it is only the stream that broke. */
export const isStreamCut = ({ fault, status }: RequestFailed): boolean => status === null && fault === undefined

const silent = (operation: string, after: Duration.Duration) =>
  scriptFault(operation, "no_answer", `no answer in ${Duration.format(after)}`)

const within = (operation: string, after: Duration.Duration) =>
  Effect.timeoutOrElse({ duration: after, orElse: () => Effect.fail(silent(operation, after)) })

export const make = (api: Api, silence: Duration.Duration) => {
  const begin = (
    operation: string,
    session: Session,
    script: string,
    args: ReadonlyArray<string>,
    left: Left | undefined
  ): Effect.Effect<Command, RequestFailed> =>
    api.on(operation, (signal) =>
      session.runCommand({
        cmd: "sh",
        args: ["-c", script, "castellan", ...args],
        detached: true,
        ...(left === undefined ? { timeoutMs: scriptTimeout } : left),
        signal
      })
    )

  /** The logs of a command, piece by piece; unless it is to be left alone, it is killed if they are not read to their end. */
  const logsOf = (operation: string, command: Command, isLeft: boolean) =>
    Effect.acquireRelease(
      Effect.sync(() => {
        const stop = new AbortController()
        return { stop, logs: command.logs({ signal: stop.signal }), isOver: isLeft }
      }),
      (held) =>
        Effect.gen(function* () {
          held.stop.abort()
          if (held.isOver) return
          yield* Effect.ignore(
            Effect.timeout(
              api.on(operation, (signal) => command.kill("SIGKILL", { abortSignal: signal })),
              "10 seconds"
            )
          )
        })
    )

  /** The lines that a script prints, as they come; it fails where they stop before the script has told its end. */
  const lines = (
    operation: string,
    session: Session,
    script: string,
    args: ReadonlyArray<string>,
    left?: Left
  ): Stream.Stream<string, RequestFailed> =>
    Stream.unwrap(
      Effect.gen(function* (): Effect.fn.Return<Stream.Stream<string, RequestFailed>, RequestFailed, Scope.Scope> {
        const command = yield* begin(operation, session, script, args, left)
        const held = yield* logsOf(operation, command, left !== undefined)
        return Stream.paginate("", (rest) =>
          Effect.gen(function* (): Effect.fn.Return<
            readonly [ReadonlyArray<string>, Option.Option<string>],
            RequestFailed
          > {
            const next = yield* api
              .ask(operation, () => held.logs.next(), Duration.infinity)
              .pipe(within(operation, silence))
            if (next.done) {
              held.isOver = true
              return yield* short(operation)
            }
            if (next.value.stream !== "stdout") return [[], Option.some(rest)]
            const all = (rest + next.value.data).split("\n")
            const last = all.pop()!
            if (last.length > longestLine) {
              return yield* scriptFault(operation, "bad_answer", "a line of the answer is too long")
            }
            const isOver = all.some((line) => exitCodeIn(line) !== undefined)
            held.isOver ||= isOver
            return [all, isOver ? Option.none() : Option.some(last)]
          })
        )
      })
    )

  const said = (
    operation: string,
    lines: Stream.Stream<string, RequestFailed>
  ): Effect.Effect<ScriptResult, RequestFailed> =>
    Effect.suspend(() => {
      const all: Array<string> = []
      let length = 0
      return Stream.runForEach(lines, (line) => {
        length += line.length + 1
        if (length > longestAnswer) return Effect.fail(scriptFault(operation, "bad_answer", "the answer is too long"))
        return Effect.sync(() => void all.push(line))
      }).pipe(Effect.map(() => ({ lines: all.slice(0, -1), code: exitCodeIn(all.at(-1) ?? "") ?? 1 })))
    })

  /** Asks once more where the answer of a script was cut off. */
  const repeated = <A, E>(asked: Effect.Effect<A, E | RequestFailed>): Effect.Effect<A, E | RequestFailed> =>
    Effect.retry(asked, {
      ...again,
      while: (error) => error instanceof RequestFailed && isStreamCut(error) && !error.isOver
    })

  /** Runs a script that waits for something to its end. */
  const wait = (operation: string, session: Session, script: string, ...args: ReadonlyArray<string>) =>
    repeated(said(operation, lines(operation, session, script, args)))

  /** Runs a script to its end. */
  const run = (operation: string, session: Session, script: string, ...args: ReadonlyArray<string>) =>
    wait(operation, session, script, ...args).pipe(within(operation, scriptDeadline))

  /** Starts a script that goes on when it has said all: what it says is heard, and it is left alone. */
  const leave = (
    operation: string,
    session: Session,
    script: string,
    args: ReadonlyArray<string>,
    env: Record<string, string>
  ) => said(operation, lines(operation, session, script, args, { env }))

  return { lines, repeated, run, wait, leave }
}

export type ScriptRunner = ReturnType<typeof make>
