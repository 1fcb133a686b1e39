/** Reads, writes and lists files by programs that run inside: every link leads to a file of the sandbox. */
import type { ListingPage, SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import { FileNotFound, type FileRefused, SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Cause, Duration, Effect, Option, Stream } from "effect"
import { once } from "node:events"
import type { Writable } from "node:stream"
import { finished } from "node:stream/promises"
import { setTimeout } from "node:timers/promises"
import { withDeadline, failOnSilence, defaultSilence } from "../../sandbox/Deadline.ts"
import { failedExitCode, fileErrorOf, homeNotAccessible, notFoundExitCode } from "../../sandbox/FileScripts.ts"
import * as Listing from "../../sandbox/Listing.ts"
import { abortableStream } from "../../sandbox/abortableStream.ts"
import type { Isolation, RunningSandbox } from "../isolation/Isolation.ts"
import { collectStderr, type Program, systemPath } from "../process/Spawn.ts"
import { type ConnectedProgram, runConnected } from "../process/Spawner.ts"
import type { Pipe } from "../process/spawnerProtocol.ts"
import { inside, listFiles, noDirectory, readFile, writeFile } from "./scripts.ts"

/** How a program inside ended. The code is null if the spawner process ended first. */
interface FileProgramResult {
  readonly code: number | null
  readonly stderr: string
}

const isResult = (cause: unknown): cause is FileProgramResult =>
  typeof cause === "object" && cause !== null && "stderr" in cause

const failureOf = (operation: string, path: SandboxPath, cause: unknown) => {
  if (isResult(cause)) {
    // `nsenter` may fail with the same words, so only the scripts' own exit codes count.
    if (cause.code === notFoundExitCode) return new FileNotFound({ path })
    const message = cause.code === noDirectory ? homeNotAccessible : cause.code === failedExitCode ? cause.stderr : ""
    const refusal = fileErrorOf(path, message)
    if (refusal !== undefined) return refusal
  }
  return new SandboxUnavailable({ operation, retryable: true, cause })
}

const isNoAnswer = (cause: Cause.Cause<unknown>) =>
  Option.exists(
    Cause.findErrorOption(cause),
    (error) => error instanceof SandboxUnavailable && error.fault === "no_answer"
  )

/** Milliseconds in which a writing program must exit by itself after its input broke off. Then it is killed. */
const exitTimeout = 2000

/** The time limit of a whole listing, as a multiple of the time limit of one answer. */
const listingTimeoutFactor = 2

/** `silent` is how long a program inside may print or read nothing. */
export const make = (isolation: Isolation, silent = defaultSilence) => {
  /** A program that runs a script in the sandbox's home directory. */
  const programIn = (sandbox: RunningSandbox, script: string, ...args: ReadonlyArray<string>): Program => {
    const home = isolation.homeDirectory(sandbox.files)
    const env = [`HOME=${home}`, `PATH=${systemPath}`]
    const enter = isolation.enterCommand(sandbox.files, sandbox.init)
    return {
      command: [...enter, "sh", "-c", inside, "sh", home, ...env, "sh", "-c", script, "castellan", ...args],
      cwd: "/",
      user: isolation.userOf(sandbox.record)
    }
  }

  /** The standard output of a program. The program ends when the stream is no longer read. */
  const outputOf = (operation: string, path: SandboxPath, program: Program) =>
    abortableStream(
      (signal) => readOutput(program, signal),
      (cause) => failureOf(operation, path, cause)
    ).pipe(failOnSilence(operation, silent))

  const read = (sandbox: RunningSandbox, path: SandboxPath) =>
    outputOf("readFile", path, programIn(sandbox, readFile, path))

  const write = <E>(
    sandbox: RunningSandbox,
    path: SandboxPath,
    content: Stream.Stream<Uint8Array, E>,
    { mode = "" }: { readonly mode?: string | undefined } = {}
  ) =>
    Effect.gen(function* (): Effect.fn.Return<number, E | FileNotFound | FileRefused | SandboxUnavailable> {
      const answered = withDeadline("writeFile", silent)
      const child = yield* Effect.tryPromise({
        try: (signal) => start(programIn(sandbox, writeFile, path, mode), ["stdin", "stderr", "extra"], signal),
        catch: (cause) => failureOf("writeFile", path, cause)
      }).pipe(answered)
      const input = child.pipe("stdin")
      const commit = child.pipe("extra")
      // A program that ends early breaks the pipes. Its exit code says why.
      for (const pipe of [input, commit]) pipe.on("error", () => undefined)
      const ended = resultOf(child)
      let size = 0
      const send = Stream.runForEach(content, (chunk) => {
        size += chunk.length
        return answered(Effect.promise(() => writeChunk(input, chunk, ended)))
      })
      const finish = Effect.suspend(() => {
        input.end()
        commit.end("done\n")
        return answered(Effect.promise(() => ended))
      })
      return yield* Effect.andThen(send, finish).pipe(
        Effect.flatMap((result) =>
          result.code === 0 ? Effect.succeed(size) : Effect.fail(failureOf("writeFile", path, result))
        ),
        Effect.onError((cause) =>
          Effect.promise(async () => {
            commit.destroy()
            input.destroy()
            // The program removes its temporary file, unless it does not react at all.
            if (!isNoAnswer(cause)) await Promise.race([ended, setTimeout(exitTimeout, undefined, { ref: false })])
            child.end()
          })
        )
      )
    })

  const list = (sandbox: RunningSandbox, path: SandboxPath, page: ListingPage) =>
    Listing.page(
      "listFiles",
      (directories) => outputOf("listFiles", path, programIn(sandbox, listFiles, path, ...directories)),
      page
    ).pipe(withDeadline("listFiles", Duration.times(silent, listingTimeoutFactor)))

  return { read, write, list }
}

interface FileProgram extends ConnectedProgram {
  /** Kills the program and its process group, and closes its pipes. */
  readonly end: () => void
}

const start = async (program: Program, pipes: ReadonlyArray<Pipe>, signal: AbortSignal): Promise<FileProgram> => {
  const child = await runConnected(program, pipes)
  const end = () => {
    child.kill()
    for (const pipe of pipes) child.pipe(pipe).destroy()
  }
  // The caller may have been interrupted while the program started.
  if (signal.aborted) end()
  return { ...child, end }
}

/** How a program ended, once its standard error is complete. */
const resultOf = async (child: FileProgram): Promise<FileProgramResult> => {
  const errors = collectStderr({ stderr: child.pipe("stderr") })
  // The pipe may already be closed.
  const complete = finished(child.pipe("stderr"), { writable: false }).catch(() => undefined)
  try {
    const code = await child.ended
    await complete
    return { code, stderr: errors() }
  } catch (cause) {
    return { code: null, stderr: `${String(cause)}\n` }
  }
}

/** Yields the standard output of a program, and throws its `FileProgramResult` if it failed. */
async function* readOutput(program: Program, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const child = await start(program, ["stdout", "stderr"], signal)
  signal.addEventListener("abort", child.end)
  const ended = resultOf(child)
  try {
    for await (const chunk of child.pipe("stdout")) yield chunk as Uint8Array
    const result = await ended
    if (result.code !== 0) throw result
  } finally {
    signal.removeEventListener("abort", child.end)
    child.end()
  }
}

/** Writes a chunk and waits until the pipe takes more, or the program has ended. */
const writeChunk = async (pipe: Writable, chunk: Uint8Array, ended: Promise<unknown>): Promise<void> => {
  if (pipe.destroyed || pipe.write(chunk)) return
  await Promise.race([once(pipe, "drain").catch(() => undefined), ended])
}
