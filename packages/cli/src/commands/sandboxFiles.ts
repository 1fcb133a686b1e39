/** Commands that list, read and write the files of a sandbox. */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as HttpBody from "effect/http/HttpBody"
import * as Option from "effect/Option"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import { ask, brokenOff, open } from "../client/Client.ts"
import { UsageRefused } from "../client/Failure.ts"
import { account, id } from "../flags.ts"
import * as Output from "../output/Output.ts"
import { filesAtOnce, orNone, pages } from "../client/pages.ts"
import { table } from "../output/Table.ts"

const sandboxId = id("ID", "The sandbox's id")

const files = Command.make(
  "files",
  {
    id: sandboxId,
    path: Argument.String("PATH").pipe(
      Argument.withDescription("The directory; the home directory of the sandbox if left out"),
      Argument.optional
    ),
    recursive: Flag.Boolean("recursive").pipe(
      Flag.withAlias("r"),
      Flag.withDescription("List subdirectories, too"),
      Flag.withDefault(false)
    ),
    account
  },
  Effect.fnUntraced(function* ({ account, id, path: directory, recursive }) {
    const answer = yield* pages("sandbox.files", "files", {
      params: { sandboxId: id },
      query: { path: Option.getOrUndefined(directory), recursive: recursive ? "true" : undefined, account_id: account },
      ...filesAtOnce
    })
    yield* Output.present(answer, ({ files }) =>
      table(
        ["TYPE", "MODE", "SIZE", "MODIFIED", "PATH"],
        files.map(({ mode, modifiedAt, path, size, target, type }) => [
          type,
          mode,
          size,
          modifiedAt,
          target === undefined ? path : `${path} -> ${target}`
        ])
      )
    )
    yield* orNone("files", answer.json.files)
  })
).pipe(
  Command.withDescription("List the files in a directory of a sandbox"),
  Command.withExamples([{ command: "castellan sandboxes files sbx_przh8wmwvnj7s0h78nq1 src -r" }])
)

const file = Argument.String("PATH").pipe(
  Argument.withDescription("The file's path, absolute or relative to the home directory of the sandbox")
)

const read = Command.make(
  "read",
  { id: sandboxId, path: file, account },
  Effect.fnUntraced(function* ({ account, id, path: file }) {
    const { response, url } = yield* open("sandbox.readFile", {
      params: { sandboxId: id },
      query: { path: file, account_id: account },
      headers: { accept: "application/octet-stream" }
    })
    if (response.headers["content-length"] === "0") return
    yield* response.stream.pipe(
      Stream.mapError(brokenOff(url)),
      Stream.runForEach((bytes) => Output.print(bytes))
    )
  })
).pipe(
  Command.withDescription("Print a file of a sandbox to standard output"),
  Command.withExamples([{ command: "castellan sandboxes read sbx_przh8wmwvnj7s0h78nq1 notes.txt > notes.txt" }])
)

const bytes = { contentType: "application/octet-stream" }

/** The bytes to send, and the permissions of their file; standard input has none. */
const contentFrom = Effect.fnUntraced(function* (source: Option.Option<string>) {
  if (Option.isNone(source) || source.value === "-") {
    const { stdin } = yield* Stdio.Stdio
    return { body: HttpBody.stream(stdin, bytes.contentType), mode: undefined }
  }
  const unreadable = new UsageRefused({ say: `${source.value} can't be read, or is not a file` })
  const { mode, type } = yield* Effect.mapError((yield* FileSystem.FileSystem).stat(source.value), () => unreadable)
  if (type === "Directory") return yield* unreadable
  const body = yield* Effect.mapError(HttpBody.file(source.value, bytes), () => unreadable)
  return { body, mode: type === "File" ? (mode & 0o777).toString(8) : undefined }
})

const write = Command.make(
  "write",
  {
    id: sandboxId,
    path: file,
    source: Argument.String("FILE").pipe(
      Argument.withDescription("A local file whose bytes and permissions are copied; - or nothing for standard input"),
      Argument.optional
    ),
    mode: Flag.String("mode").pipe(
      Flag.withDescription("Permissions in octal; those of FILE if left out, or the current ones for standard input"),
      Flag.optional
    ),
    account
  },
  Effect.fnUntraced(function* ({ account, id, mode, path: file, source }) {
    const content = yield* contentFrom(source)
    const answer = yield* ask("sandbox.writeFile", {
      params: { sandboxId: id },
      query: { path: file, mode: Option.getOrElse(mode, () => content.mode), account_id: account },
      body: content.body
    })
    yield* Output.present(answer, ({ path, size }) => `${path}, ${size} ${size === 1 ? "byte" : "bytes"}`)
  })
).pipe(
  Command.withDescription("Write a file to a sandbox"),
  Command.withExamples([
    { command: "castellan sandboxes write sbx_przh8wmwvnj7s0h78nq1 notes.txt notes.txt" },
    { command: "echo hello | castellan sandboxes write sbx_przh8wmwvnj7s0h78nq1 notes.txt" }
  ])
)

export const sandboxFiles = [files, read, write] as const
