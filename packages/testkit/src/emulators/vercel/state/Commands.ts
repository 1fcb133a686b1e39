/** What is asked of commands. */
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
  type Refused,
  type Sink,
  type Streamed
} from "../wire/Answers.ts"
import * as Bodies from "../wire/Bodies.ts"
import { fresh, type KeptCommand, type KeptSession } from "./Kept.ts"
import * as Lifecycle from "./Lifecycle.ts"
import { type Asked, mustRun, type Site, unavailable } from "./Site.ts"
import { bodyOf, flag, integer, record, text, texts } from "../wire/Wanted.ts"

/** How long a command may run when nothing is said of it: the longest that Vercel takes. */
const longest = Duration.toMillis(Duration.hours(5))

type Trouble = CommandNotFound | SandboxGone | SandboxNotRunning | SandboxUnavailable

/** What is answered where the provider could not do it. */
export const troubled =
  (site: Site, session: KeptSession) =>
  (error: Trouble): Effect.Effect<never, Refused> => {
    switch (error._tag) {
      case "CommandNotFound":
        return Effect.fail(notFound("Command"))
      case "SandboxUnavailable":
        return Effect.fail(unavailable(error))
      default:
        return Lifecycle.noticed(site, session)
    }
  }

const withoutNul = (values: ReadonlyArray<string>) => values.every((value) => !value.includes("\0"))

const started = Effect.fnUntraced(function* (site: Site, session: KeptSession, asked: Asked) {
  yield* mustRun(session)
  const body = yield* bodyOf(asked.body)
  const command = (yield* text(body, "command")) ?? ""
  const args = (yield* texts(body, "args")) ?? []
  const cwd = yield* text(body, "cwd")
  const env = { ...session.sandbox.settings.env, ...(yield* record(body, "env")) }
  const timeout = Math.min((yield* integer(body, "timeout")) ?? longest, longest)
  // A line for a shell, where the name of a program is wanted.
  const isLine = args.length === 0 && /\s/.test(command)
  if (command === "" || isLine || !withoutNul([command, ...args, ...Object.values(env)])) {
    return yield* badRequest(`Invalid request: \`command\` can't be run: ${command}`)
  }
  const wants = { waits: (yield* flag(body, "wait")) ?? false, logs: (yield* flag(body, "logs")) ?? false }
  const where = posix.resolve(site.home, cwd ?? ".")
  const id = CommandId.make(`cmd_${fresh(24)}`)
  const one: KeptCommand = { id, name: command, args, cwd: where, startedAt: yield* Clock.currentTimeMillis }
  const spec = {
    id,
    command,
    args,
    cwd: cwd === undefined ? null : where,
    env,
    timeout: Duration.millis(Math.max(1, timeout))
  }
  const now = yield* site.provider.start(session.sandbox.providerName, spec).pipe(
    Effect.tap(() => Effect.sync(() => session.commands.set(id, one))),
    Effect.catch(troubled(site, session)),
    Effect.uninterruptible
  )
  return { one, now, ...wants }
})

const lines = (site: Site, sink: Sink) => (value: unknown) =>
  sink.write(Buffer.from(`${site.ascii ? ascii(value) : JSON.stringify(value)}\n`))

const streamClosed = {
  stream: "error",
  data: {
    code: "sandbox_stream_closed",
    message: "Sandbox stream was closed and is not accepting commands."
  }
}

/** Sends what a command prints until it has ended; tells how, or nothing where its session ended before. */
const followed = Effect.fnUntraced(function* (site: Site, session: KeptSession, one: KeptCommand, sink: Sink) {
  const { providerName } = session.sandbox
  const line = lines(site, sink)
  const decoders = { stdout: new TextDecoder(), stderr: new TextDecoder() }
  const say = (stream: Output["stream"], data: string) => (data === "" ? Effect.void : line({ stream, data }))
  const all = Stream.runForEach(site.provider.output(providerName, one.id, OutputPosition.start), ({ bytes, stream }) =>
    say(stream, decoders[stream].decode(bytes, { stream: true }))
  ).pipe(
    Effect.andThen(Effect.suspend(() => say("stdout", decoders.stdout.decode()))),
    Effect.andThen(Effect.suspend(() => say("stderr", decoders.stderr.decode()))),
    Effect.andThen(site.provider.wait(providerName, one.id)),
    Effect.map(Option.some)
  )
  const ended = yield* Effect.raceFirst(all, Effect.as(Deferred.await(session.closing), Option.none())).pipe(
    Effect.catch(() => Effect.succeed(Option.none()))
  )
  return Option.filter(ended, ({ end }) => end?.by !== "lost")
})

const ndjson = "application/x-ndjson"

/** Starts a command; one that is waited for is told of in lines, to its end. */
export const start = (site: Site, session: KeptSession, asked: Asked): Streamed => ({
  stream: Effect.fnUntraced(function* (sink) {
    const { logs, now, one, waits } = yield* started(site, session, asked)
    if (!waits) return json({ command: Bodies.command(one, session, now) })
    const line = lines(site, sink)
    sink.begin(ndjson)
    yield* line({ command: Bodies.command(one, session, { ...now, end: null }) })
    const quiet: Sink = { ...sink, write: () => Effect.void }
    const ended = yield* followed(site, session, one, logs ? sink : quiet)
    if (Option.isSome(ended)) return yield* line({ command: Bodies.command(one, session, ended.value) })
    // Its machine went without the emulator.
    if (session.status === "running") yield* Effect.ignore(Lifecycle.expire(site, session))
    yield* line(streamClosed)
  })
})

const commandOf = Effect.fnUntraced(function* (session: KeptSession, id: string) {
  yield* mustRun(session)
  return session.commands.get(id) ?? (yield* notFound("Command"))
})

/** All that a command has printed, and what it prints until it ends. */
export const logs = (site: Site, session: KeptSession, id: string): Streamed => ({
  stream: Effect.fnUntraced(function* (sink) {
    const one = yield* commandOf(session, id)
    sink.begin(ndjson)
    const ended = yield* followed(site, session, one, sink)
    if (Option.isNone(ended)) yield* lines(site, sink)(streamClosed)
  })
})

const seen = (site: Site, session: KeptSession, one: KeptCommand) =>
  site.provider.command(session.sandbox.providerName, one.id).pipe(
    Effect.catch(troubled(site, session)),
    Effect.map((now) => Bodies.command(one, session, now))
  )

/** The commands of a session. */
export const list = Effect.fnUntraced(function* (site: Site, session: KeptSession) {
  yield* mustRun(session)
  return json({ commands: yield* Effect.forEach(session.commands.values(), (one) => seen(site, session, one)) })
})

/** How long a client waits for a head before it asks again is 5 minutes: it gets one in time. Real ms. */
const headAfter = 60_000

const waited = (site: Site, session: KeptSession, one: KeptCommand): Streamed => ({
  stream: Effect.fnUntraced(function* (sink) {
    const timer = setTimeout(() => sink.begin("application/json; charset=utf-8"), headAfter)
    const ended = yield* Effect.raceFirst(
      Effect.map(site.provider.wait(session.sandbox.providerName, one.id), Option.some),
      Effect.as(Deferred.await(session.closing), Option.none())
    ).pipe(Effect.catch(troubled(site, session)), Effect.ensuring(Effect.sync(() => clearTimeout(timer))))
    const now = Option.filter(ended, ({ end }) => end?.by !== "lost")
    if (Option.isNone(now)) {
      if (!sink.hasBegun()) return yield* refusalOf("stopped")
      return sink.breakOff()
    }
    const body = { command: Bodies.command(one, session, now.value) }
    if (!sink.hasBegun()) return json(body)
    yield* sink.write(Buffer.from(JSON.stringify(body)))
  })
})

/** A command as it is, or once it has ended. */
export const show = Effect.fnUntraced(function* (site: Site, session: KeptSession, asked: Asked, id: string) {
  const one = yield* commandOf(session, id)
  if (asked.query.get("wait") === "true") return waited(site, session, one)
  return json({ command: yield* seen(site, session, one) })
})

/** The signals that end a program which does not catch them, by number. */
const deadly = new Set([1, 2, 3, 6, 9, 10, 12, 13, 14, 15])

/** Sends a signal. Whatever it is, the provider can only kill; the exit code is that of the signal. */
export const kill = Effect.fnUntraced(function* (site: Site, session: KeptSession, asked: Asked, id: string) {
  const one = yield* commandOf(session, id)
  const signal = (yield* integer(yield* bodyOf(asked.body), "signal")) ?? 15
  const { providerName } = session.sandbox
  const refuse = Effect.catch(troubled(site, session))
  if (!deadly.has(signal))
    return yield* badRequest(`Invalid request: \`signal\` ${signal} is not part of this emulator.`)
  const before = yield* refuse(site.provider.command(providerName, one.id))
  if (before.end === null) {
    one.signal = signal
    yield* refuse(site.provider.kill(providerName, one.id))
  }
  return json({ command: yield* seen(site, session, one) })
})
