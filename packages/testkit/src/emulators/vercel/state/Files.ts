/** What is asked of files. */
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
import { badRequest, json, notFound, type Refused, type Streamed } from "../wire/Answers.ts"
import { troubled } from "./Commands.ts"
import { fresh, type KeptSession } from "./Kept.ts"
import { type Asked, mustRun, type Site } from "./Site.ts"
import { type TarFile, unpacked } from "../wire/Tar.ts"
import { bodyOf, flag, text } from "../wire/Wanted.ts"

type Trouble = FileNotFound | FileRefused | CommandNotFound | SandboxGone | SandboxNotRunning | SandboxUnavailable

/** What is answered where the provider could not do it. */
export const refused =
  (site: Site, session: KeptSession) =>
  (error: Trouble): Effect.Effect<never, Refused> => {
    if (error._tag === "FileNotFound") return Effect.fail(notFound("File"))
    if (error._tag === "FileRefused") return Effect.fail(badRequest(`${error.path}: ${error.reason}`))
    return troubled(site, session)(error)
  }

/** The path as it is from the root. */
const absolute = Effect.fnUntraced(function* (site: Site, cwd: string | undefined, path: string | undefined) {
  // A slash at the end says that it is a directory, and stays.
  const full = posix.resolve(site.home, cwd ?? ".", path ?? "") + (path?.endsWith("/") === true ? "/" : "")
  const decoded = Schema.decodeUnknownOption(SandboxPath)(full)
  if (path === undefined || path === "" || Option.isNone(decoded)) {
    return yield* badRequest("Invalid request: `path` should be a path.")
  }
  return decoded.value
})

/** The bytes of a file. */
export const read = (site: Site, session: KeptSession, asked: Asked): Streamed => ({
  stream: Effect.fnUntraced(function* (sink) {
    yield* mustRun(session)
    const body = yield* bodyOf(asked.body)
    const path = yield* absolute(site, yield* text(body, "cwd"), yield* text(body, "path"))
    const begin = () =>
      sink.begin("application/octet-stream", {
        "content-disposition": `attachment; filename*=UTF-8''${encodeURIComponent(posix.basename(path))}`
      })
    const refuse = refused(site, session)
    yield* Stream.runForEach(site.provider.readFile(session.sandbox.providerName, path), (bytes) => {
      if (!sink.hasBegun()) begin()
      return sink.write(bytes)
    }).pipe(Effect.catch((error) => (sink.hasBegun() ? Effect.sync(() => sink.breakOff()) : refuse(error))))
    if (!sink.hasBegun()) begin()
  })
})

/** Runs a program to its end; none where there is no such program. */
export const run = Effect.fnUntraced(function* (
  site: Site,
  session: KeptSession,
  command: string,
  args: ReadonlyArray<string>
) {
  const { providerName } = session.sandbox
  const id = CommandId.make(`own_${fresh(24)}`)
  yield* site.provider.start(providerName, { id, command, args, cwd: null, env: {}, timeout: Duration.minutes(1) })
  const { end } = yield* site.provider.wait(providerName, id)
  const complaint = yield* site.provider.output(providerName, id, OutputPosition.only("stderr")).pipe(
    Stream.map(({ bytes }) => bytes),
    Stream.decodeText(),
    Stream.mkString
  )
  return end?.failure === "command_not_found" ? undefined : { exitCode: end?.exitCode ?? 1, complaint }
})

/** Makes a directory, by a command. */
export const mkdir = Effect.fnUntraced(function* (site: Site, session: KeptSession, asked: Asked) {
  yield* mustRun(session)
  const body = yield* bodyOf(asked.body)
  const path = yield* absolute(site, yield* text(body, "cwd"), yield* text(body, "path"))
  const recursive = (yield* flag(body, "recursive")) ?? false
  const done = yield* Effect.catch(
    run(site, session, "mkdir", [...(recursive ? ["-p"] : []), "--", path]),
    refused(site, session)
  )
  if (done !== undefined && done.exitCode !== 0) return yield* badRequest(done.complaint.trim())
  return json({})
})

/** Writes the files of an archive, and gives them their modes. */
export const write = Effect.fnUntraced(function* (site: Site, session: KeptSession, asked: Asked) {
  yield* mustRun(session)
  const files = yield* unpacked(asked.body)
  const cwd = String(asked.headers["x-cwd"] ?? site.home)
  const refuse = refused(site, session)
  const writeOne = Effect.fnUntraced(function* ({ bytes, mode, name }: TarFile) {
    const path = yield* absolute(site, cwd, name)
    const content = Stream.make(bytes)
    const options = { mode: fileModeOf(mode) }
    yield* Effect.catch(site.provider.writeFile(session.sandbox.providerName, path, content, options), refuse)
  })
  yield* Effect.forEach(files, writeOne, { discard: true })
  return json({})
}, Effect.uninterruptible)
