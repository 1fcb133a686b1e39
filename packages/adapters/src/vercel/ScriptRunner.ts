/**
 * Runs guest scripts in a sandbox. Scripts run detached, so that a broken stream does not end them; a script whose reader
 * leaves is killed.
 */
import type { Command, Session } from "@vercel/sandbox"
import { Duration, Effect, Option, Schedule, type Scope, Stream } from "effect"
import type { Api } from "./Api.ts"
import { exitCodeIn } from "./guestScripts.ts"
import { RequestFailed, scriptFault } from "./RequestFailed.ts"

/** What a script printed on its standard output, and its exit code. */
export interface ScriptResult {
  readonly lines: ReadonlyArray<string>
  readonly code: number
}

/** Options of a script that keeps running after its answer was read. */
interface BackgroundOptions {
  readonly env: Record<string, string>
}

/** Milliseconds that a script may run: longer than any of them takes. */
const scriptTimeout = Duration.toMillis(Duration.minutes(10))

/** How long a script that waits for nothing may take, retries included. */
export const scriptDeadline = Duration.minutes(2)

/** Characters of one line, and of all lines of a script whose answer is read as a whole. */
const maxLineLength = 1024 * 1024
const maxAnswerLength = 1024 * 1024

/** The error code of a stream that ended before its script printed an exit code. */
const truncatedStream = "castellan_cut_short"

/** Retries of a script whose answer was cut off. Every script may be repeated. */
const cutRetries = { times: 3, schedule: Schedule.exponential("100 millis") }

const streamEndedEarly = (operation: string) =>
  new RequestFailed({
    status: null,
    code: truncatedStream,
    retryable: true,
    cause: new Error(`${operation}: the stream ended before the script did`)
  })

/** Whether only the stream broke; the script itself may have succeeded. */
export const isStreamCut = ({ fault, status }: RequestFailed): boolean => status === null && fault === undefined

const withTimeout = (operation: string, after: Duration.Duration) =>
  Effect.timeoutOrElse({
    duration: after,
    orElse: () => Effect.fail(scriptFault(operation, "no_answer", `no answer in ${Duration.format(after)}`))
  })

/** Retries where the answer of a script was cut off. */
const retryCutStreams = <A, E>(attempt: Effect.Effect<A, E | RequestFailed>): Effect.Effect<A, E | RequestFailed> =>
  Effect.retry(attempt, {
    ...cutRetries,
    while: (error) => error instanceof RequestFailed && isStreamCut(error) && !error.isOver
  })

const collect = (operation: string, lines: Stream.Stream<string, RequestFailed>) =>
  Effect.suspend((): Effect.Effect<ScriptResult, RequestFailed> => {
    const all: Array<string> = []
    let length = 0
    return Stream.runForEach(lines, (line) => {
      length += line.length + 1
      if (length > maxAnswerLength) return Effect.fail(scriptFault(operation, "bad_answer", "the answer is too long"))
      return Effect.sync(() => void all.push(line))
    }).pipe(Effect.map(() => ({ lines: all.slice(0, -1), code: exitCodeIn(all.at(-1) ?? "") ?? 1 })))
  })

const startScript = (
  api: Api,
  operation: string,
  session: Session,
  script: string,
  args: ReadonlyArray<string>,
  background: BackgroundOptions | undefined
): Effect.Effect<Command, RequestFailed> =>
  api.on(operation, (signal) =>
    session.runCommand({
      cmd: "sh",
      args: ["-c", script, "castellan", ...args],
      detached: true,
      ...(background === undefined ? { timeoutMs: scriptTimeout } : background),
      signal
    })
  )

/** The logs of a script. Unless it runs in the background, it is killed when they are not read to their end. */
const acquireLogs = (api: Api, operation: string, command: Command, isBackground: boolean) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const abort = new AbortController()
      return { abort, logs: command.logs({ signal: abort.signal }), isOver: isBackground }
    }),
    (reading) =>
      Effect.gen(function* () {
        reading.abort.abort()
        if (reading.isOver) return
        yield* Effect.ignore(
          Effect.timeout(
            api.on(operation, (signal) => command.kill("SIGKILL", { abortSignal: signal })),
            "10 seconds"
          )
        )
      })
  )

/** Runs guest scripts. A script that prints nothing for as long as `silenceTimeout` fails with `no_answer`. */
export const make = (api: Api, silenceTimeout: Duration.Duration) => {
  /** The lines that a script prints, as they arrive. Fails if they end before the script has printed its exit code. */
  const lines = (
    operation: string,
    session: Session,
    script: string,
    args: ReadonlyArray<string>,
    background?: BackgroundOptions
  ): Stream.Stream<string, RequestFailed> =>
    Stream.unwrap(
      Effect.gen(function* (): Effect.fn.Return<Stream.Stream<string, RequestFailed>, RequestFailed, Scope.Scope> {
        const command = yield* startScript(api, operation, session, script, args, background)
        const reading = yield* acquireLogs(api, operation, command, background !== undefined)
        return Stream.paginate("", (partialLine) =>
          Effect.gen(function* (): Effect.fn.Return<
            readonly [ReadonlyArray<string>, Option.Option<string>],
            RequestFailed
          > {
            const next = yield* api
              .ask(operation, () => reading.logs.next(), Duration.infinity)
              .pipe(withTimeout(operation, silenceTimeout))
            if (next.done) {
              reading.isOver = true
              return yield* streamEndedEarly(operation)
            }
            if (next.value.stream !== "stdout") return [[], Option.some(partialLine)]
            const complete = (partialLine + next.value.data).split("\n")
            const rest = complete.pop()!
            if (rest.length > maxLineLength) {
              return yield* scriptFault(operation, "bad_answer", "a line of the answer is too long")
            }
            const isOver = complete.some((line) => exitCodeIn(line) !== undefined)
            reading.isOver ||= isOver
            return [complete, isOver ? Option.none() : Option.some(rest)]
          })
        )
      })
    )

  /** Runs a script that waits for something, to its end. */
  const runUnbounded = (operation: string, session: Session, script: string, ...args: ReadonlyArray<string>) =>
    retryCutStreams(collect(operation, lines(operation, session, script, args)))

  /** Runs a script to its end, at most for `scriptDeadline`. */
  const run = (operation: string, session: Session, script: string, ...args: ReadonlyArray<string>) =>
    runUnbounded(operation, session, script, ...args).pipe(withTimeout(operation, scriptDeadline))

  /** Starts a script that keeps running after it has printed its answer. */
  const runInBackground = (
    operation: string,
    session: Session,
    script: string,
    args: ReadonlyArray<string>,
    env: Record<string, string>
  ) => collect(operation, lines(operation, session, script, args, { env }))

  return { lines, retryCutStreams, run, runUnbounded, runInBackground }
}

export type ScriptRunner = ReturnType<typeof make>
