/** Handles the routes of commands. */
import { CommandId, type Output, OutputPosition } from "@castellan/domain/sandbox/Command.ts"
import type {
  CommandNotFound,
  SandboxGone,
  SandboxNotRunning,
  SandboxUnavailable
} from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Clock, Deferred, Duration, Effect, Option, Stream } from "effect"
import { posix } from "node:path"
import {
  ascii,
  badRequest,
  json,
  notFound,
  refusalOf,
  type ApiError,
  type ResponseWriter,
  type StreamedResponse
} from "../wire/responses.ts"
import * as serializers from "../wire/serializers.ts"
import { randomId, type CommandModel, type SessionModel } from "./models.ts"
import * as Lifecycle from "./Lifecycle.ts"
import { type EmulatorRequest, requireRunning, type EmulatorState, unavailable } from "./EmulatorState.ts"
import { decodeBody, KillCommand, StartCommand } from "../wire/requestSchemas.ts"

/** The default and the maximum timeout of a command, as at Vercel. */
const longest = Duration.toMillis(Duration.hours(5))

type Trouble = CommandNotFound | SandboxGone | SandboxNotRunning | SandboxUnavailable

/** Turns an error of the provider into an error of the API. */
export const providerFailure =
  (state: EmulatorState, session: SessionModel) =>
  (error: Trouble): Effect.Effect<never, ApiError> => {
    switch (error._tag) {
      case "CommandNotFound":
        return Effect.fail(notFound("Command"))
      case "SandboxUnavailable":
        return Effect.fail(unavailable(error))
      default:
        return Lifecycle.noticed(state, session)
    }
  }

const withoutNul = (values: ReadonlyArray<string>) => values.every((value) => !value.includes("\0"))

const startCommand = Effect.fnUntraced(function* (
  state: EmulatorState,
  session: SessionModel,
  request: EmulatorRequest
) {
  yield* requireRunning(session)
  const body = yield* decodeBody(StartCommand, request.body)
  const { args = [], command = "", cwd } = body
  const env = { ...session.sandbox.settings.env, ...body.env }
  const timeout = Math.min(body.timeout ?? longest, longest)
  // A shell command line instead of a program name.
  const isLine = args.length === 0 && /\s/.test(command)
  if (command === "" || isLine || !withoutNul([command, ...args, ...Object.values(env)])) {
    return yield* badRequest(`Invalid request: \`command\` can't be run: ${command}`)
  }
  const where = posix.resolve(state.home, cwd ?? ".")
  const id = CommandId.make(`cmd_${randomId(24)}`)
  const one: CommandModel = { id, name: command, args, cwd: where, startedAt: yield* Clock.currentTimeMillis }
  const spec = {
    id,
    command,
    args,
    cwd: cwd === undefined ? null : where,
    env,
    timeout: Duration.millis(Math.max(1, timeout))
  }
  const now = yield* state.provider.start(session.sandbox.providerName, spec).pipe(
    Effect.tap(() => Effect.sync(() => session.commands.set(id, one))),
    Effect.catch(providerFailure(state, session)),
    Effect.uninterruptible
  )
  return { one, now, waits: body.wait ?? false, logs: body.logs ?? false }
})

const lines = (state: EmulatorState, writer: ResponseWriter) => (value: unknown) =>
  writer.write(Buffer.from(`${state.ascii ? ascii(value) : JSON.stringify(value)}\n`))

const streamClosed = {
  stream: "error",
  data: {
    code: "sandbox_stream_closed",
    message: "Sandbox stream was closed and is not accepting commands."
  }
}

/** Streams the output of a command until it ends. Returns the ended command, or none if its session ended first. */
const streamOutput = Effect.fnUntraced(function* (
  state: EmulatorState,
  session: SessionModel,
  one: CommandModel,
  writer: ResponseWriter
) {
  const { providerName } = session.sandbox
  const line = lines(state, writer)
  const decoders = { stdout: new TextDecoder(), stderr: new TextDecoder() }
  const say = (stream: Output["stream"], data: string) => (data === "" ? Effect.void : line({ stream, data }))
  const all = Stream.runForEach(
    state.provider.output(providerName, one.id, OutputPosition.start),
    ({ bytes, stream }) => say(stream, decoders[stream].decode(bytes, { stream: true }))
  ).pipe(
    Effect.andThen(Effect.suspend(() => say("stdout", decoders.stdout.decode()))),
    Effect.andThen(Effect.suspend(() => say("stderr", decoders.stderr.decode()))),
    Effect.andThen(state.provider.wait(providerName, one.id)),
    Effect.map(Option.some)
  )
  const ended = yield* Effect.raceFirst(all, Effect.as(Deferred.await(session.closing), Option.none())).pipe(
    Effect.catch(() => Effect.succeed(Option.none()))
  )
  return Option.filter(ended, ({ end }) => end?.by !== "lost")
})

const ndjson = "application/x-ndjson"

/** Starts a command. With `wait` the response is a stream of lines until the command ends. */
export const start = (state: EmulatorState, session: SessionModel, request: EmulatorRequest): StreamedResponse => ({
  stream: Effect.fnUntraced(function* (writer) {
    const { logs, now, one, waits } = yield* startCommand(state, session, request)
    if (!waits) return json({ command: serializers.command(one, session, now) })
    const line = lines(state, writer)
    writer.begin(ndjson)
    yield* line({ command: serializers.command(one, session, { ...now, end: null }) })
    const quiet: ResponseWriter = { ...writer, write: () => Effect.void }
    const ended = yield* streamOutput(state, session, one, logs ? writer : quiet)
    if (Option.isSome(ended)) return yield* line({ command: serializers.command(one, session, ended.value) })
    // The sandbox stopped without the emulator.
    if (session.status === "running") yield* Effect.ignore(Lifecycle.expire(state, session))
    yield* line(streamClosed)
  })
})

const commandOf = Effect.fnUntraced(function* (session: SessionModel, id: string) {
  yield* requireRunning(session)
  return session.commands.get(id) ?? (yield* notFound("Command"))
})

/** Streams all output of a command until it ends. */
export const logs = (state: EmulatorState, session: SessionModel, id: string): StreamedResponse => ({
  stream: Effect.fnUntraced(function* (writer) {
    const one = yield* commandOf(session, id)
    writer.begin(ndjson)
    const ended = yield* streamOutput(state, session, one, writer)
    if (Option.isNone(ended)) yield* lines(state, writer)(streamClosed)
  })
})

const currentCommand = (state: EmulatorState, session: SessionModel, one: CommandModel) =>
  state.provider.command(session.sandbox.providerName, one.id).pipe(
    Effect.catch(providerFailure(state, session)),
    Effect.map((now) => serializers.command(one, session, now))
  )

/** Lists the commands of a session. */
export const list = Effect.fnUntraced(function* (state: EmulatorState, session: SessionModel) {
  yield* requireRunning(session)
  return json({
    commands: yield* Effect.forEach(session.commands.values(), (one) => currentCommand(state, session, one))
  })
})

/** When the head of the response is sent, in real ms: before the client's timeout of 5 minutes. */
const headAfter = 60_000

const waitForCommand = (state: EmulatorState, session: SessionModel, one: CommandModel): StreamedResponse => ({
  stream: Effect.fnUntraced(function* (writer) {
    const timer = setTimeout(() => writer.begin("application/json; charset=utf-8"), headAfter)
    const ended = yield* Effect.raceFirst(
      Effect.map(state.provider.wait(session.sandbox.providerName, one.id), Option.some),
      Effect.as(Deferred.await(session.closing), Option.none())
    ).pipe(Effect.catch(providerFailure(state, session)), Effect.ensuring(Effect.sync(() => clearTimeout(timer))))
    const now = Option.filter(ended, ({ end }) => end?.by !== "lost")
    if (Option.isNone(now)) {
      if (!writer.hasBegun()) return yield* refusalOf("stopped")
      return writer.breakOff()
    }
    const body = { command: serializers.command(one, session, now.value) }
    if (!writer.hasBegun()) return json(body)
    yield* writer.write(Buffer.from(JSON.stringify(body)))
  })
})

/** Returns a command, with `wait` once it has ended. */
export const show = Effect.fnUntraced(function* (
  state: EmulatorState,
  session: SessionModel,
  request: EmulatorRequest,
  id: string
) {
  const one = yield* commandOf(session, id)
  if (request.query.get("wait") === "true") return waitForCommand(state, session, one)
  return json({ command: yield* currentCommand(state, session, one) })
})

/** The numbers of signals that terminate a program by default. */
const deadly = new Set([1, 2, 3, 6, 9, 10, 12, 13, 14, 15])

/** Sends a signal. The provider kills the command, and the exit code is that of the signal. */
export const kill = Effect.fnUntraced(function* (
  state: EmulatorState,
  session: SessionModel,
  request: EmulatorRequest,
  id: string
) {
  const one = yield* commandOf(session, id)
  const { signal = 15 } = yield* decodeBody(KillCommand, request.body)
  const { providerName } = session.sandbox
  const refuse = Effect.catch(providerFailure(state, session))
  if (!deadly.has(signal))
    return yield* badRequest(`Invalid request: \`signal\` ${signal} is not part of this emulator.`)
  const before = yield* refuse(state.provider.command(providerName, one.id))
  if (before.end === null) {
    one.signal = signal
    yield* refuse(state.provider.kill(providerName, one.id))
  }
  return json({ command: yield* currentCommand(state, session, one) })
})
