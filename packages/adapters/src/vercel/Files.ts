/** Files by way of programs that run inside, and of Vercel's way to bring bytes in and out. */
import type { SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import {
  FileNotFound,
  type FileRefused,
  type SandboxGone,
  type SandboxNotRunning,
  SandboxUnavailable
} from "@castellan/domain/sandbox/SandboxProvider.ts"
import type { Session } from "@vercel/sandbox"
import { Effect, Stream } from "effect"
import { randomUUID } from "node:crypto"
import type { Readable } from "node:stream"
import { deepest, failed, listed, notThere, refusalOf } from "../sandbox/Files.ts"
import type { Api } from "./Api.ts"
import type { Inside, Said } from "./Inside.ts"
import type { Machines } from "./Machines.ts"
import type { Refusal } from "./Refusal.ts"
import { forget, list as listScript, place, readable, uploads } from "./scripts.ts"

type NoFile = FileNotFound | FileRefused | SandboxGone | SandboxNotRunning | SandboxUnavailable

/** Bytes that are brought in at once: what the SDK holds in memory of a file. */
const pieceSize = 4 * 1024 * 1024

const failureOf = (operation: string, path: SandboxPath, { code, lines }: Said) => {
  if (code === notThere) return new FileNotFound({ path })
  const refusal = code === failed ? refusalOf(path, lines.findLast((line) => line.trim() !== "") ?? "") : undefined
  if (refusal !== undefined) return refusal
  return new SandboxUnavailable({ operation, retryable: true, cause: new Error(`exit ${code}: ${lines.join("\n")}`) })
}

const bytesOf = (lines: ReadonlyArray<string>) => Buffer.from(lines.join(""), "base64")

export const make = (api: Api, machines: Machines, inside: Inside) => {
  const succeeded = (operation: string, path: SandboxPath, said: Said) =>
    said.code === 0 ? Effect.succeed(said) : Effect.fail(failureOf(operation, path, said))

  const inSandbox = (
    operation: string,
    name: SandboxName,
    path: SandboxPath,
    use: (session: Session) => Effect.Effect<Said, Refusal>
  ) => Effect.flatMap(machines.inRunning(operation, name, use), (said) => succeeded(operation, path, said))

  const read = (name: SandboxName, path: SandboxPath): Stream.Stream<Uint8Array, NoFile> =>
    Stream.unwrap(
      Effect.gen(function* () {
        const operation = "readFile"
        yield* inSandbox(operation, name, path, (session) =>
          inside.run(operation, session, readable, session.cwd, path)
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
        )
      })
    )

  /** Brings a piece into the sandbox, beside the files of its owner. */
  const upload = (name: SandboxName, to: string, content: Uint8Array) =>
    machines.inRunning("writeFile", name, (session) =>
      api.on("writeFile", (signal) => session.writeFiles([{ path: `${uploads}${to}`, content }], { signal }))
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
            inside.run("writeFile", session, place, id, session.cwd, path, mode)
          )
        ),
        Effect.ensuring(
          Effect.suspend(() =>
            pieces === 0
              ? Effect.void
              : Effect.ignore(
                  machines.inRunning("writeFile", name, (session) => inside.run("writeFile", session, forget, id))
                )
          )
        )
      )
      return size
    })

  const list = Effect.fnUntraced(function* (name: SandboxName, path: SandboxPath, recursive: boolean) {
    const levels = String(recursive ? deepest : 1)
    const { lines } = yield* inSandbox("listFiles", name, path, (session) =>
      inside.run("listFiles", session, listScript, session.cwd, path, levels)
    )
    return listed(bytesOf(lines).toString())
  })

  return { read, write, list }
}
