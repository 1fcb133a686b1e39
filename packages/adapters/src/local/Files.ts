/** Files by way of programs that run inside: whatever links lie in the way, they lead to files of the sandbox. */
import { SandboxFile, type SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import { FileNotFound, SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { DateTime, Effect, Stream } from "effect"
import type { ChildProcess } from "node:child_process"
import { once } from "node:events"
import type { Readable, Writable } from "node:stream"
import type { Isolation } from "./Isolation.ts"
import type { Running } from "./Machines.ts"
import { inside, listFiles, notThere, path as searchPath, readFile, writeFile } from "./scripts.ts"
import { start } from "./Spawn.ts"
import { run } from "./Spawner.ts"

/** Levels that a listing goes down. */
const deepest = 64

const kinds: Record<string, SandboxFile["type"]> = { f: "file", d: "directory", l: "link" }

export const make = (isolation: Isolation) => {
  const command = (machine: Running, script: string, ...args: ReadonlyArray<string>) => {
    const home = isolation.home(machine.files)
    const env = [`HOME=${home}`, `PATH=${searchPath}`]
    const entered = isolation.enter(machine.files, machine.booted)
    return [...entered, "sh", "-c", inside, "sh", home, ...env, "sh", "-c", script, "castellan", ...args]
  }

  const options = { cwd: "/", drop: isolation.drop }

  const unavailable = (operation: string, cause: unknown) =>
    new SandboxUnavailable({ operation, retryable: true, cause })

  const read = (machine: Running, path: SandboxPath) =>
    Stream.fromAsyncIterable(
      bytesOf(start({ command: command(machine, readFile, path), ...options }, ["ignore", "pipe", "ignore"])),
      (cause) => (cause === notThere ? new FileNotFound({ path }) : unavailable("readFile", cause))
    )

  const write = <E>(machine: Running, path: SandboxPath, content: Stream.Stream<Uint8Array, E>) =>
    Effect.suspend(() => {
      const child = start({ command: command(machine, writeFile, path), ...options }, [
        "pipe",
        "ignore",
        "ignore",
        "pipe"
      ])
      const ended = new Promise<number>((resolve) => {
        child.on("error", () => resolve(notThere))
        child.on("close", (code) => resolve(code ?? 1))
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
      return sent.pipe(
        Effect.andThen(
          Effect.promise(async () => {
            bytes.end()
            word.end("done\n")
            return await ended
          })
        ),
        Effect.flatMap((code): Effect.Effect<number, FileNotFound | SandboxUnavailable> => {
          if (code === 0) return Effect.succeed(size)
          return code === notThere ? new FileNotFound({ path }) : unavailable("writeFile", code)
        }),
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
    const { code, stderr, stdout } = yield* run("listFiles", command(machine, listFiles, path, levels), options)
    if (code === notThere) return yield* new FileNotFound({ path })
    if (code !== 0 && stdout === "") return yield* unavailable("listFiles", stderr)
    const fields = stdout.split("\0")
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

/** What a program prints; it fails with the program's exit code, and ends the program when it is no longer read. */
async function* bytesOf(child: ChildProcess): AsyncGenerator<Uint8Array> {
  const closed = once(child, "close")
  try {
    for await (const chunk of child.stdout as Readable) yield chunk as Uint8Array
    const [code] = (await closed) as [number | null]
    if (code !== 0) throw code
  } finally {
    child.kill("SIGKILL")
    closed.catch(() => undefined)
  }
}

/** Sends bytes no faster than they are taken. */
const send = async (pipe: Writable, chunk: Uint8Array, ended: Promise<unknown>): Promise<void> => {
  if (pipe.destroyed || pipe.write(chunk)) return
  await Promise.race([once(pipe, "drain").catch(() => undefined), ended])
}
