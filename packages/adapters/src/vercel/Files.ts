/** Files by way of programs that run inside, and of Vercel's way to bring bytes in and out. */
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
import { withDeadline, failOnSilence } from "../sandbox/Deadline.ts"
import { failedExitCode, notFoundExitCode, fileErrorOf } from "../sandbox/FileScripts.ts"
import * as Listing from "../sandbox/Listing.ts"
import type { Api } from "./Api.ts"
import { scriptDeadline, type ScriptRunner, type ScriptResult } from "./ScriptRunner.ts"
import type { SandboxVms } from "./SandboxVms.ts"
import type { RequestFailed } from "./RequestFailed.ts"
import {
  exitCodeIn,
  discardUpload,
  listDirectories as listScript,
  placeUpload,
  checkReadable,
  uploadPrefix
} from "./guestScripts.ts"

type NoFile = FileNotFound | FileRefused | SandboxGone | SandboxNotRunning | SandboxUnavailable

/** Bytes that are brought in at once: what the SDK holds in memory of a file. */
const pieceSize = 4 * 1024 * 1024

const failureOf = (operation: string, path: SandboxPath, { code, lines }: ScriptResult) => {
  if (code === notFoundExitCode) return new FileNotFound({ path })
  const refusal =
    code === failedExitCode ? fileErrorOf(path, lines.findLast((line) => line.trim() !== "") ?? "") : undefined
  if (refusal !== undefined) return refusal
  return new SandboxUnavailable({ operation, retryable: true, cause: new Error(`exit ${code}: ${lines.join("\n")}`) })
}

const nothing = new Uint8Array()

/** Whether a line can be a piece of a listing, and not a complaint. */
const isBase64 = (line: string) => /^[A-Za-z0-9+/]+={0,2}$/.test(line)

export const make = (api: Api, machines: SandboxVms, inside: ScriptRunner, silence: Duration.Duration) => {
  const succeeded = (operation: string, path: SandboxPath, said: ScriptResult) =>
    said.code === 0 ? Effect.succeed(said) : Effect.fail(failureOf(operation, path, said))

  const inSandbox = (
    operation: string,
    name: SandboxName,
    path: SandboxPath,
    use: (session: Session) => Effect.Effect<ScriptResult, RequestFailed>
  ) => Effect.flatMap(machines.inRunning(operation, name, use), (said) => succeeded(operation, path, said))

  const read = (name: SandboxName, path: SandboxPath): Stream.Stream<Uint8Array, NoFile> =>
    Stream.unwrap(
      Effect.gen(function* () {
        const operation = "readFile"
        yield* inSandbox(operation, name, path, (session) =>
          inside.run(operation, session, checkReadable, session.cwd, path)
        )
        const bytes = yield* machines.inRunning(operation, name, (session) =>
          api.on(operation, () => session.readFile({ path: path.startsWith("/") ? path : `${session.cwd}/${path}` }))
        )
        // A reader that leaves may be in the middle of a pull, which only the end of the download ends.
        yield* Effect.addFinalizer(() => Effect.sync(() => void (bytes as Readable | null)?.destroy()))
        if (bytes === null) return yield* new FileNotFound({ path })
        return Stream.fromAsyncIterable(
          bytes as AsyncIterable<Uint8Array>,
          (cause) => new SandboxUnavailable({ operation, retryable: true, cause })
        ).pipe(failOnSilence(operation, silence))
      })
    )

  /** Brings a piece into the sandbox, beside the files of its owner. */
  const upload = (name: SandboxName, to: string, content: Uint8Array) =>
    machines.inRunning("writeFile", name, (session) =>
      api.on("writeFile", (signal) => session.writeFiles([{ path: `${uploadPrefix}${to}`, content }], { signal }))
    )

  const write = <E>(
    name: SandboxName,
    path: SandboxPath,
    content: Stream.Stream<Uint8Array, E>,
    { mode = "" }: { readonly mode?: string | undefined } = {}
  ) =>
    Effect.gen(function* (): Effect.fn.Return<number, E | NoFile> {
      yield* machines.running("writeFile", name)
      const id = randomUUID()
      let size = 0
      let pieces = 0
      let begun: Array<Uint8Array> = []
      let waiting = 0
      const flush = Effect.suspend(() => {
        const piece = Buffer.concat(begun)
        begun = []
        waiting = 0
        return upload(name, `${id}-${String(pieces++).padStart(8, "0")}`, piece)
      })
      yield* Stream.runForEach(content, (chunk) => {
        size += chunk.length
        waiting += chunk.length
        begun.push(chunk)
        return waiting >= pieceSize ? flush : Effect.void
      }).pipe(
        Effect.andThen(Effect.suspend(() => (waiting > 0 || pieces === 0 ? flush : Effect.void))),
        Effect.andThen(
          inSandbox("writeFile", name, path, (session) =>
            inside.run("writeFile", session, placeUpload, id, session.cwd, path, mode)
          )
        ),
        Effect.ensuring(
          Effect.suspend(() =>
            pieces === 0
              ? Effect.void
              : Effect.ignore(
                  machines.inRunning("writeFile", name, (session) =>
                    inside.run("writeFile", session, discardUpload, id)
                  )
                )
          )
        )
      )
      return size
    })

  /** What the program prints that lists directories. */
  const printed = (session: Session, path: SandboxPath, directories: ReadonlyArray<string>) =>
    Stream.suspend(() => {
      let complaint = ""
      return inside.lines("listFiles", session, listScript, [session.cwd, path, ...directories]).pipe(
        Stream.mapEffect((line): Effect.Effect<Uint8Array, FileNotFound | FileRefused | SandboxUnavailable> => {
          const code = exitCodeIn(line)
          if (code !== undefined && code !== 0) {
            return Effect.fail(failureOf("listFiles", path, { code, lines: [complaint] }))
          }
          const isPiece = code === undefined && isBase64(line)
          if (!isPiece && code === undefined) complaint = line
          return Effect.succeed(isPiece ? Buffer.from(line, "base64") : nothing)
        })
      )
    })

  const list = (name: SandboxName, path: SandboxPath, page: ListingPage) =>
    machines
      .inRunning("listFiles", name, (session) =>
        inside.repeated(Listing.page("listFiles", (directories) => printed(session, path, directories), page))
      )
      .pipe(withDeadline("listFiles", scriptDeadline))

  return { read, write, list }
}
