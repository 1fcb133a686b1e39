/** Files of a sandbox: guest scripts check, place and list them; the SDK transfers their bytes. */
import type { ListingPage, SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import {
  FileNotFound,
  type FileRefused,
  type SandboxGone,
  type SandboxNotRunning,
  SandboxUnavailable
} from "@castellan/domain/sandbox/SandboxProvider.ts"
import type { Session } from "@vercel/sandbox"
import { type Duration, Effect, Stream } from "effect"
import { randomUUID } from "node:crypto"
import type { Readable } from "node:stream"
import { failOnSilence, withDeadline } from "../sandbox/Deadline.ts"
import { failedExitCode, fileErrorOf, notFoundExitCode } from "../sandbox/FileScripts.ts"
import * as Listing from "../sandbox/Listing.ts"
import type { Api } from "./Api.ts"
import { checkReadable, discardUpload, exitCodeIn, listDirectories, placeUpload, uploadPrefix } from "./guestScripts.ts"
import type { RequestFailed } from "./RequestFailed.ts"
import type { SandboxVms } from "./SandboxVms.ts"
import { scriptDeadline, type ScriptResult, type ScriptRunner } from "./ScriptRunner.ts"

type FileError = FileNotFound | FileRefused | SandboxGone | SandboxNotRunning | SandboxUnavailable

/** Bytes of one uploaded piece: the SDK holds a piece in memory. */
const uploadPieceSize = 4 * 1024 * 1024

const errorOf = (operation: string, path: SandboxPath, { code, lines }: ScriptResult) => {
  if (code === notFoundExitCode) return new FileNotFound({ path })
  const lastLine = lines.findLast((line) => line.trim() !== "") ?? ""
  const error = code === failedExitCode ? fileErrorOf(path, lastLine) : undefined
  if (error !== undefined) return error
  return new SandboxUnavailable({ operation, retryable: true, cause: new Error(`exit ${code}: ${lines.join("\n")}`) })
}

/** Whether a line is a piece of a listing rather than an error message. */
const isBase64 = (line: string) => /^[A-Za-z0-9+/]+={0,2}$/.test(line)

/** Calls `upload` with each piece of the content and its number. Empty content is one empty piece. */
const uploadPieces = <E, E2>(
  content: Stream.Stream<Uint8Array, E>,
  upload: (index: number, piece: Uint8Array) => Effect.Effect<void, E2>
) => {
  const progress = { size: 0, pieces: 0 }
  let chunks: Array<Uint8Array> = []
  let buffered = 0
  const flush = Effect.suspend(() => {
    const piece = Buffer.concat(chunks)
    chunks = []
    buffered = 0
    return upload(progress.pieces++, piece)
  })
  const all = Stream.runForEach(content, (chunk) => {
    progress.size += chunk.length
    buffered += chunk.length
    chunks.push(chunk)
    return buffered >= uploadPieceSize ? flush : Effect.void
  }).pipe(Effect.andThen(Effect.suspend(() => (buffered > 0 || progress.pieces === 0 ? flush : Effect.void))))
  return { progress, all }
}

/** The bytes that the listing script prints about some directories. */
const printedListing = (
  scripts: ScriptRunner,
  session: Session,
  path: SandboxPath,
  directories: ReadonlyArray<string>
) =>
  Stream.suspend(() => {
    let message = ""
    return scripts.lines("listFiles", session, listDirectories, [session.cwd, path, ...directories]).pipe(
      Stream.mapEffect((line): Effect.Effect<Uint8Array, FileNotFound | FileRefused | SandboxUnavailable> => {
        const code = exitCodeIn(line)
        if (code !== undefined && code !== 0) {
          return Effect.fail(errorOf("listFiles", path, { code, lines: [message] }))
        }
        const isPiece = code === undefined && isBase64(line)
        if (!isPiece && code === undefined) message = line
        return Effect.succeed(isPiece ? Buffer.from(line, "base64") : new Uint8Array())
      })
    )
  })

export const make = (api: Api, vms: SandboxVms, scripts: ScriptRunner, silenceTimeout: Duration.Duration) => {
  const runScript = (
    operation: string,
    name: SandboxName,
    path: SandboxPath,
    run: (session: Session) => Effect.Effect<ScriptResult, RequestFailed>
  ) =>
    Effect.flatMap(vms.useRunning(operation, name, run), (result) =>
      result.code === 0 ? Effect.succeed(result) : Effect.fail(errorOf(operation, path, result))
    )

  const read = (name: SandboxName, path: SandboxPath): Stream.Stream<Uint8Array, FileError> =>
    Stream.unwrap(
      Effect.gen(function* () {
        const operation = "readFile"
        yield* runScript(operation, name, path, (session) =>
          scripts.run(operation, session, checkReadable, session.cwd, path)
        )
        const bytes = yield* vms.useRunning(operation, name, (session) =>
          api.on(operation, () => session.readFile({ path: path.startsWith("/") ? path : `${session.cwd}/${path}` }))
        )
        // A reader may leave in the middle of a pull, which ends only when the download is destroyed.
        yield* Effect.addFinalizer(() => Effect.sync(() => void (bytes as Readable | null)?.destroy()))
        if (bytes === null) return yield* new FileNotFound({ path })
        return Stream.fromAsyncIterable(
          bytes as AsyncIterable<Uint8Array>,
          (cause) => new SandboxUnavailable({ operation, retryable: true, cause })
        ).pipe(failOnSilence(operation, silenceTimeout))
      })
    )

  const write = <E>(
    name: SandboxName,
    path: SandboxPath,
    content: Stream.Stream<Uint8Array, E>,
    { mode = "" }: { readonly mode?: string | undefined } = {}
  ) =>
    Effect.gen(function* (): Effect.fn.Return<number, E | FileError> {
      const operation = "writeFile"
      yield* vms.findRunning(operation, name)
      const id = randomUUID()
      const { all, progress } = uploadPieces(content, (index, piece) => {
        const file = { path: `${uploadPrefix}${id}-${String(index).padStart(8, "0")}`, content: piece }
        return vms.useRunning(operation, name, (session) =>
          api.on(operation, (signal) => session.writeFiles([file], { signal }))
        )
      })
      const place = runScript(operation, name, path, (session) =>
        scripts.run(operation, session, placeUpload, id, session.cwd, path, mode)
      )
      const discard = Effect.suspend(() =>
        progress.pieces === 0
          ? Effect.void
          : Effect.ignore(
              vms.useRunning(operation, name, (session) => scripts.run(operation, session, discardUpload, id))
            )
      )
      yield* all.pipe(Effect.andThen(place), Effect.ensuring(discard))
      return progress.size
    })

  const list = (name: SandboxName, path: SandboxPath, page: ListingPage) =>
    vms
      .useRunning("listFiles", name, (session) =>
        scripts.retryCutStreams(
          Listing.page("listFiles", (directories) => printedListing(scripts, session, path, directories), page)
        )
      )
      .pipe(withDeadline("listFiles", scriptDeadline))

  return { read, write, list }
}
