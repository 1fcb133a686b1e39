/** Files by way of programs that run inside, and of Vercel's way to bring bytes in and out. */
import { SandboxFile, type SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import {
  FileNotFound,
  FileRefused,
  type SandboxGone,
  type SandboxNotRunning,
  SandboxUnavailable
} from "@castellan/domain/sandbox/SandboxProvider.ts"
import type { Session } from "@vercel/sandbox"
import { DateTime, Effect, Stream } from "effect"
import { randomUUID } from "node:crypto"
import type { Api } from "./Api.ts"
import type { Inside, Said } from "./Inside.ts"
import type { Machines } from "./Machines.ts"
import type { Refusal } from "./Refusal.ts"
import { failed, forget, list as listScript, notThere, place, readable, uploads } from "./scripts.ts"

type NoFile = FileNotFound | FileRefused | SandboxGone | SandboxNotRunning | SandboxUnavailable

/** Bytes that are brought in at once: what the SDK holds in memory of a file. */
const pieceSize = 4 * 1024 * 1024

/** Levels that a listing goes down. */
const deepest = 64

const kinds: Record<string, SandboxFile["type"]> = { f: "file", d: "directory", l: "link" }

/** What the system says of a path that is not of the kind it has to be. */
const otherKind = ["Not a directory", "File exists"]

const notAllowed = "The sandbox's user is not allowed to"
const nothingThere = "No file can be made there"

/** What the system says of a path that is the caller's to change, and what its owner is told. */
const refusals = new Map([
  ["home", "The home directory can't be entered"],
  ["Permission denied", notAllowed],
  ["Operation not permitted", notAllowed],
  ["Read-only file system", "It can't be changed"],
  ["File name too long", "Its name is too long"],
  ["Is a directory", "It is named like a directory"],
  ["No such file or directory", nothingThere],
  ["Directory nonexistent", nothingThere],
  ["Device or resource busy", nothingThere],
  ["Too many levels of symbolic links", nothingThere]
])

const failureOf = (operation: string, path: SandboxPath, { code, lines }: Said) => {
  if (code === notThere) return new FileNotFound({ path })
  const said =
    lines
      .findLast((line) => line.trim() !== "")
      ?.trimEnd()
      .split(": ")
      .at(-1) ?? ""
  if (code === failed && otherKind.includes(said)) return new FileNotFound({ path })
  const reason = code === failed ? refusals.get(said) : undefined
  if (reason !== undefined) return new FileRefused({ path, reason })
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

  const write = <E>(name: SandboxName, path: SandboxPath, content: Stream.Stream<Uint8Array, E>) =>
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
            inside.run("writeFile", session, place, id, session.cwd, path)
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
    const fields = bytesOf(lines).toString().split("\0")
    const files: Array<SandboxFile> = []
    for (let i = 0; i + 3 < fields.length; i += 4) {
      files.push(
        new SandboxFile({
          path: fields[i]!,
          type: kinds[fields[i + 1]!] ?? "other",
          size: Number(fields[i + 2]),
          modifiedAt: DateTime.makeUnsafe(Math.floor(Number(fields[i + 3]) * 1000))
        })
      )
    }
    return files.sort((a, b) => (a.path < b.path ? -1 : 1))
  })

  return { read, write, list }
}
