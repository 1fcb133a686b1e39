/** Handles the routes of files. */
import { CommandId } from "@castellan/domain/sandbox/Command.ts"
import { fileModeOf, SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import { OutputPosition } from "@castellan/domain/sandbox/Command.ts"
import type {
  CommandNotFound,
  FileNotFound,
  FileRefused,
  SandboxGone,
  SandboxNotRunning,
  SandboxUnavailable
} from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Duration, Effect, Option, Schema, Stream } from "effect"
import { posix } from "node:path"
import { badRequest, json, notFound, type ApiError, type StreamedResponse } from "../wire/responses.ts"
import { providerFailure } from "./Commands.ts"
import { randomId, type SessionModel } from "./models.ts"
import { type EmulatorRequest, requireRunning, type EmulatorState } from "./EmulatorState.ts"
import { type TarFile, unpacked } from "../wire/Tar.ts"
import { decodeBody, FilePath } from "../wire/requestSchemas.ts"

type Trouble = FileNotFound | FileRefused | CommandNotFound | SandboxGone | SandboxNotRunning | SandboxUnavailable

/** Turns an error of the provider into an error of the API. */
export const fileFailure =
  (state: EmulatorState, session: SessionModel) =>
  (error: Trouble): Effect.Effect<never, ApiError> => {
    if (error._tag === "FileNotFound") return Effect.fail(notFound("File"))
    if (error._tag === "FileRefused") return Effect.fail(badRequest(`${error.path}: ${error.reason}`))
    return providerFailure(state, session)(error)
  }

/** Makes a path absolute. */
const absolute = Effect.fnUntraced(function* (state: EmulatorState, cwd: string | undefined, path: string | undefined) {
  // Keeps a trailing slash, which marks a directory.
  const full = posix.resolve(state.home, cwd ?? ".", path ?? "") + (path?.endsWith("/") === true ? "/" : "")
  const decoded = Schema.decodeUnknownOption(SandboxPath)(full)
  if (path === undefined || path === "" || Option.isNone(decoded)) {
    return yield* badRequest("Invalid request: `path` should be a path.")
  }
  return decoded.value
})

/** Streams the bytes of a file. */
export const read = (state: EmulatorState, session: SessionModel, request: EmulatorRequest): StreamedResponse => ({
  stream: Effect.fnUntraced(function* (writer) {
    yield* requireRunning(session)
    const body = yield* decodeBody(FilePath, request.body)
    const path = yield* absolute(state, body.cwd, body.path)
    const begin = () =>
      writer.begin("application/octet-stream", {
        "content-disposition": `attachment; filename*=UTF-8''${encodeURIComponent(posix.basename(path))}`
      })
    const refuse = fileFailure(state, session)
    yield* Stream.runForEach(state.provider.readFile(session.sandbox.providerName, path), (bytes) => {
      if (!writer.hasBegun()) begin()
      return writer.write(bytes)
    }).pipe(Effect.catch((error) => (writer.hasBegun() ? Effect.sync(() => writer.breakOff()) : refuse(error))))
    if (!writer.hasBegun()) begin()
  })
})

/** Runs a program to its end; undefined if the program does not exist. */
export const run = Effect.fnUntraced(function* (
  state: EmulatorState,
  session: SessionModel,
  command: string,
  args: ReadonlyArray<string>
) {
  const { providerName } = session.sandbox
  const id = CommandId.make(`own_${randomId(24)}`)
  yield* state.provider.start(providerName, { id, command, args, cwd: null, env: {}, timeout: Duration.minutes(1) })
  const { end } = yield* state.provider.wait(providerName, id)
  const complaint = yield* state.provider.output(providerName, id, OutputPosition.only("stderr")).pipe(
    Stream.map(({ bytes }) => bytes),
    Stream.decodeText(),
    Stream.mkString
  )
  return end?.failure === "command_not_found" ? undefined : { exitCode: end?.exitCode ?? 1, complaint }
})

/** Creates a directory with `mkdir`. */
export const mkdir = Effect.fnUntraced(function* (
  state: EmulatorState,
  session: SessionModel,
  request: EmulatorRequest
) {
  yield* requireRunning(session)
  const body = yield* decodeBody(FilePath, request.body)
  const path = yield* absolute(state, body.cwd, body.path)
  const done = yield* Effect.catch(
    run(state, session, "mkdir", [...(body.recursive === true ? ["-p"] : []), "--", path]),
    fileFailure(state, session)
  )
  if (done !== undefined && done.exitCode !== 0) return yield* badRequest(done.complaint.trim())
  return json({})
})

/** Writes the files of an archive with their modes. */
export const write = Effect.fnUntraced(function* (
  state: EmulatorState,
  session: SessionModel,
  request: EmulatorRequest
) {
  yield* requireRunning(session)
  const files = yield* unpacked(request.body)
  const cwd = String(request.headers["x-cwd"] ?? state.home)
  const refuse = fileFailure(state, session)
  const writeOne = Effect.fnUntraced(function* ({ bytes, mode, name }: TarFile) {
    const path = yield* absolute(state, cwd, name)
    const content = Stream.make(bytes)
    const options = { mode: fileModeOf(mode) }
    yield* Effect.catch(state.provider.writeFile(session.sandbox.providerName, path, content, options), refuse)
  })
  yield* Effect.forEach(files, writeOne, { discard: true })
  return json({})
}, Effect.uninterruptible)
