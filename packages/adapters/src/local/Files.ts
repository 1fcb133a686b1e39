/** Files by way of programs that run inside: whatever links lie in the way, they lead to files of the sandbox. */
import type { SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import { FileNotFound, type FileRefused, SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Effect, Stream } from "effect"
import type { ChildProcess } from "node:child_process"
import { once } from "node:events"
import type { Readable, Writable } from "node:stream"
import { whileRead } from "../sandbox/whileRead.ts"
import { deepest, failed, listed, noHome, notThere, refusalOf } from "../sandbox/Files.ts"
import type { Isolation } from "./Isolation.ts"
import type { Running } from "./Machines.ts"
import { inside, listFiles, noDirectory, path as searchPath, readFile, writeFile } from "./scripts.ts"
import { errorsOf, start } from "./Spawn.ts"
import { run } from "./Spawner.ts"

/** How a program failed that a file was asked of, and what it printed of errors. */
interface Failed {
  readonly code: number | null
  readonly stderr: string
}

const isFailed = (cause: unknown): cause is Failed => typeof cause === "object" && cause !== null && "stderr" in cause

const failureOf = (operation: string, path: SandboxPath, cause: unknown) => {
  if (isFailed(cause)) {
    // What enters the sandbox may have failed, and says so in the same words; only its exit codes are its own.
    if (cause.code === notThere) return new FileNotFound({ path })
    const said = cause.code === noDirectory ? noHome : cause.code === failed ? cause.stderr : ""
    const refusal = refusalOf(path, said)
    if (refusal !== undefined) return refusal
  }
  return new SandboxUnavailable({ operation, retryable: true, cause })
}

export const make = (isolation: Isolation) => {
  const command = (machine: Running, script: string, ...args: ReadonlyArray<string>) => {
    const home = isolation.home(machine.files)
    const env = [`HOME=${home}`, `PATH=${searchPath}`]
    const entered = isolation.enter(machine.files, machine.booted)
    return [...entered, "sh", "-c", inside, "sh", home, ...env, "sh", "-c", script, "castellan", ...args]
  }

  const options = (machine: Running) => ({ cwd: "/", drop: isolation.userOf(machine.spec) })

  const read = (machine: Running, path: SandboxPath) =>
    whileRead(
      (signal) =>
        bytesOf(
          () => start({ command: command(machine, readFile, path), ...options(machine) }, ["ignore", "pipe", "pipe"]),
          signal
        ),
      (cause) => failureOf("readFile", path, cause)
    )

  const write = <E>(
    machine: Running,
    path: SandboxPath,
    content: Stream.Stream<Uint8Array, E>,
    { mode = "" }: { readonly mode?: string | undefined } = {}
  ) =>
    Effect.gen(function* (): Effect.fn.Return<number, E | FileNotFound | FileRefused | SandboxUnavailable> {
      const program = { command: command(machine, writeFile, path, mode), ...options(machine) }
      const child = yield* Effect.try({
        try: () => start(program, ["pipe", "ignore", "pipe", "pipe"]),
        catch: (cause) => failureOf("writeFile", path, cause)
      })
      const errors = errorsOf(child)
      const ended = new Promise<Failed>((resolve) => {
        child.on("error", (cause) => resolve({ code: null, stderr: `${cause.message}\n` }))
        child.on("close", (code) => resolve({ code, stderr: errors() }))
      })
      const bytes = child.stdin!
      const word = child.stdio[3] as Writable
      // A writer that ends early breaks the pipe; its exit code says why.
      for (const pipe of [bytes, word]) pipe.on("error", () => undefined)
      let size = 0
      const sent = Stream.runForEach(content, (chunk) => {
        size += chunk.length
        return Effect.promise(() => send(bytes, chunk, ended))
      })
      return yield* sent.pipe(
        Effect.andThen(
          Effect.promise(async () => {
            bytes.end()
            word.end("done\n")
            return await ended
          })
        ),
        Effect.flatMap((end) =>
          end.code === 0 ? Effect.succeed(size) : Effect.fail(failureOf("writeFile", path, end))
        ),
        Effect.onError(() =>
          Effect.promise(async () => {
            word.destroy()
            bytes.destroy()
            await ended
          })
        )
      )
    })

  const list = Effect.fnUntraced(function* (machine: Running, path: SandboxPath, recursive: boolean) {
    const levels = String(recursive ? deepest : 1)
    const { code, stderr, stdout } = yield* run(
      "listFiles",
      command(machine, listFiles, path, levels),
      options(machine)
    )
    if (code !== 0 && stdout === "") return yield* Effect.fail(failureOf("listFiles", path, { code, stderr }))
    return listed(stdout)
  })

  return { read, write, list }
}

/** What a program prints; it fails with how the program did, and ends the program when it is no longer read. */
async function* bytesOf(begin: () => ChildProcess, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const child = begin()
  const end = () => void child.kill("SIGKILL")
  signal.addEventListener("abort", end)
  const closed = once(child, "close")
  const errors = errorsOf(child)
  try {
    for await (const chunk of child.stdout as Readable) yield chunk as Uint8Array
    const [code] = (await closed) as [number | null]
    if (code !== 0) throw { code, stderr: errors() } satisfies Failed
  } finally {
    signal.removeEventListener("abort", end)
    end()
    closed.catch(() => undefined)
  }
}

/** Sends bytes no faster than they are taken. */
const send = async (pipe: Writable, chunk: Uint8Array, ended: Promise<unknown>): Promise<void> => {
  if (pipe.destroyed || pipe.write(chunk)) return
  await Promise.race([once(pipe, "drain").catch(() => undefined), ended])
}
