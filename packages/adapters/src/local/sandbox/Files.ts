/** Files by way of programs that run inside: whatever links lie in the way, they lead to files of the sandbox. */
import type { ListingPage, SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import { FileNotFound, type FileRefused, SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Cause, Duration, Effect, Option, Stream } from "effect"
import { once } from "node:events"
import type { Writable } from "node:stream"
import { finished } from "node:stream/promises"
import { setTimeout } from "node:timers/promises"
import { withDeadline, failOnSilence, defaultSilence } from "../../sandbox/Deadline.ts"
import { failedExitCode, homeNotAccessible, notFoundExitCode, fileErrorOf } from "../../sandbox/FileScripts.ts"
import * as Listing from "../../sandbox/Listing.ts"
import { abortableStream } from "../../sandbox/abortableStream.ts"
import type { Isolation } from "../isolation/Isolation.ts"
import type { Running } from "./Machines.ts"
import { inside, listFiles, noDirectory, readFile, systemPath, writeFile } from "../isolation/scripts.ts"
import { errorsOf, type Pipe, type Program } from "../process/Spawn.ts"
import { connected, type Connected } from "../process/Spawner.ts"

/** How a program failed that a file was asked of, and what it printed of errors. */
interface Failed {
  readonly code: number | null
  readonly stderr: string
}

const isFailed = (cause: unknown): cause is Failed => typeof cause === "object" && cause !== null && "stderr" in cause

const failureOf = (operation: string, path: SandboxPath, cause: unknown) => {
  if (isFailed(cause)) {
    // What enters the sandbox may have failed, and says so in the same words; only its exit codes are its own.
    if (cause.code === notFoundExitCode) return new FileNotFound({ path })
    const said = cause.code === noDirectory ? homeNotAccessible : cause.code === failedExitCode ? cause.stderr : ""
    const refusal = fileErrorOf(path, said)
    if (refusal !== undefined) return refusal
  }
  return new SandboxUnavailable({ operation, retryable: true, cause })
}

const isSilence = (cause: Cause.Cause<unknown>) =>
  Option.exists(
    Cause.findErrorOption(cause),
    (error) => error instanceof SandboxUnavailable && error.fault === "no_answer"
  )

/** Milliseconds that a writing program has to exit by itself after its input broke off; then it is killed. */
const leavesWithin = 2000

/** How often a listing as a whole may take the time of one answer. */
const answersOfListing = 2

export const make = (isolation: Isolation, silent = defaultSilence) => {
  const command = (machine: Running, script: string, ...args: ReadonlyArray<string>) => {
    const home = isolation.home(machine.files)
    const env = [`HOME=${home}`, `PATH=${systemPath}`]
    const entered = isolation.enter(machine.files, machine.booted)
    return [...entered, "sh", "-c", inside, "sh", home, ...env, "sh", "-c", script, "castellan", ...args]
  }

  /** A program that runs inside, with a script in the sandbox's home. */
  const program = (machine: Running, script: string, ...args: ReadonlyArray<string>): Program => ({
    command: command(machine, script, ...args),
    cwd: "/",
    user: isolation.userOf(machine.spec)
  })

  /** What a program prints inside, for as long as somebody reads it. */
  const printed = (operation: string, path: SandboxPath, program: Program) =>
    abortableStream(
      (signal) => bytesOf(program, signal),
      (cause) => failureOf(operation, path, cause)
    ).pipe(failOnSilence(operation, silent))

  const read = (machine: Running, path: SandboxPath) => printed("readFile", path, program(machine, readFile, path))

  const write = <E>(
    machine: Running,
    path: SandboxPath,
    content: Stream.Stream<Uint8Array, E>,
    { mode = "" }: { readonly mode?: string | undefined } = {}
  ) =>
    Effect.gen(function* (): Effect.fn.Return<number, E | FileNotFound | FileRefused | SandboxUnavailable> {
      const answered = withDeadline("writeFile", silent)
      const child = yield* Effect.tryPromise({
        try: (signal) => begun(program(machine, writeFile, path, mode), ["stdin", "stderr", "extra"], signal),
        catch: (cause) => failureOf("writeFile", path, cause)
      }).pipe(answered)
      const bytes = child.pipe("stdin")
      const word = child.pipe("extra")
      // A writer that ends early breaks the pipe; its exit code says why.
      for (const pipe of [bytes, word]) pipe.on("error", () => undefined)
      const ended = endOf(child)
      let size = 0
      const sent = Stream.runForEach(content, (chunk) => {
        size += chunk.length
        return answered(Effect.promise(() => send(bytes, chunk, ended)))
      })
      const finished = Effect.suspend(() => {
        bytes.end()
        word.end("done\n")
        return answered(Effect.promise(() => ended))
      })
      return yield* Effect.andThen(sent, finished).pipe(
        Effect.flatMap((end) =>
          end.code === 0 ? Effect.succeed(size) : Effect.fail(failureOf("writeFile", path, end))
        ),
        Effect.onError((cause) =>
          Effect.promise(async () => {
            word.destroy()
            bytes.destroy()
            // It removes what it has written so far, unless it does not answer at all.
            if (!isSilence(cause)) await Promise.race([ended, setTimeout(leavesWithin, undefined, { ref: false })])
            child.end()
          })
        )
      )
    })

  const list = (machine: Running, path: SandboxPath, page: ListingPage) =>
    Listing.page(
      "listFiles",
      (directories) => printed("listFiles", path, program(machine, listFiles, path, ...directories)),
      page
    ).pipe(withDeadline("listFiles", Duration.times(silent, answersOfListing)))

  return { read, write, list }
}

/** A program that was started, and how it is ended. */
interface Begun extends Connected {
  /** Ends it with what it started, unless that left its process group, and no longer listens to it. */
  readonly end: () => void
}

const begun = async (program: Program, pipes: ReadonlyArray<Pipe>, signal: AbortSignal): Promise<Begun> => {
  const child = await connected(program, pipes)
  const end = () => {
    child.kill()
    for (const pipe of pipes) child.pipe(pipe).destroy()
  }
  // Whoever wanted it may have left while it started.
  if (signal.aborted) end()
  return { ...child, end }
}

/** How a program ended, once it has said all there is to say about it. */
const endOf = async (child: Begun): Promise<Failed> => {
  const errors = errorsOf({ stderr: child.pipe("stderr") })
  // It may have been closed before anybody could listen.
  const silent = finished(child.pipe("stderr"), { writable: false }).catch(() => undefined)
  try {
    const code = await child.ended
    await silent
    return { code, stderr: errors() }
  } catch (cause) {
    return { code: null, stderr: `${String(cause)}\n` }
  }
}

/** What a program prints; it fails with how the program did, and ends the program when it is no longer read. */
async function* bytesOf(program: Program, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const child = await begun(program, ["stdout", "stderr"], signal)
  signal.addEventListener("abort", child.end)
  const ended = endOf(child)
  try {
    for await (const chunk of child.pipe("stdout")) yield chunk as Uint8Array
    const end = await ended
    if (end.code !== 0) throw end
  } finally {
    signal.removeEventListener("abort", child.end)
    child.end()
  }
}

/** Sends bytes no faster than they are taken. */
const send = async (pipe: Writable, chunk: Uint8Array, ended: Promise<unknown>): Promise<void> => {
  if (pipe.destroyed || pipe.write(chunk)) return
  await Promise.race([once(pipe, "drain").catch(() => undefined), ended])
}
