/** Emulates the adapter's guest scripts for sandboxes in memory, without a shell or processes. */
import { failedExitCode, homeNotAccessible, notFoundExitCode } from "@castellan/adapters/sandbox/FileScripts.ts"
import * as scripts from "@castellan/adapters/vercel/guestScripts.ts"
import { type CommandEnd, CommandId, type OutputStream } from "@castellan/domain/sandbox/Command.ts"
import { fileModeOf } from "@castellan/domain/sandbox/SandboxFile.ts"
import { home, type MemoryFiles, refusalOf, resolve } from "@castellan/testkit/fakes/sandbox/MemoryFiles.ts"
import { execute, type MemoryProcess, type MemoryPrograms } from "@castellan/testkit/fakes/sandbox/MemoryPrograms.ts"
import type { CommandSpec } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Clock, Deferred, Duration, Effect, Fiber } from "effect"

const utf8 = new TextEncoder()

type Words = ReadonlyArray<string>

type Script = (process: MemoryProcess, ...args: ReadonlyArray<string>) => Effect.Effect<number>

const say = ({ command }: MemoryProcess, line: string) => command.print("stdout", utf8.encode(`${line}\n`))

/** A script that prints its exit code. */
const telling =
  (script: Script): Script =>
  (process, ...args) =>
    Effect.map(script(process, ...args), (code) => {
      say(process, `= ${code}`)
      return 0
    })

/** The record of a command, in the files of its sandbox. */
const keptOf = (files: MemoryFiles, sandbox: string, id: string) => {
  const at = (name: string) => `${scripts.recordsDirectory}/commands/${sandbox}/${id}/${name}`
  const bytesOf = (name: string) => files.read(at(name)) ?? new Uint8Array()
  const textOf = (name: string) => new TextDecoder().decode(bytesOf(name))
  return {
    isThere: () => files.read(at("begun")) !== undefined,
    session: () => textOf("begun").split(" ")[0],
    hasEnded: () => files.read(at("exit")) !== undefined,
    bytesOf,
    textOf,
    write: (name: string, text: string, now: number) => files.write(at(name), utf8.encode(text), now),
    remove: () => ["begun", "exit", "out", "err"].forEach((name) => files.remove(at(name))),
    append: (name: string, bytes: Uint8Array, now: number) => files.append(at(name), bytes, now)
  }
}

type Kept = ReturnType<typeof keptOf>

const tell = (process: MemoryProcess, kept: Kept) => {
  say(process, `begun ${kept.textOf("begun")}`)
  if (kept.hasEnded()) say(process, `ended ${kept.textOf("exit")}`)
}

/** The running commands of a sandbox, by its files and their ids. */
const running = new WeakMap<MemoryFiles, Map<string, Deferred.Deferred<void>>>()

const runningIn = (files: MemoryFiles) => {
  const known = running.get(files) ?? new Map<string, Deferred.Deferred<void>>()
  running.set(files, known)
  return known
}

/** The program that `enterAndExec` runs, with its variables. */
const specOf = (id: string, seconds: string, env: CommandSpec["env"], called: Words) => {
  // They follow `sh -c enterAndExec sh home`, their number, and `/bin/sh -c startScript sh`.
  const [count, , , , , cwd, command, ...args] = called.slice(5)
  const brought = Array.from({ length: Number(count) }, (_, index) => env[`${scripts.variablePrefix}${index}`]!)
  return {
    id: CommandId.make(id),
    command: command!,
    args,
    cwd: cwd === "." ? home : cwd!,
    env: Object.fromEntries(brought.map((word) => word.split(/=(.*)/s).slice(0, 2))),
    timeout: Duration.seconds(Number(seconds))
  }
}

const outputs: Record<OutputStream, string> = { stdout: "out", stderr: "err" }

const wrap: Script = Effect.fnUntraced(function* (process, name = "", ...words) {
  const [id = "", session = "", blocks = "", seconds = "", ...called] = words
  const { command, files } = process
  const kept = keptOf(files, name, id)
  const isFirst = !kept.isThere()
  if (isFirst) kept.write("begun", `${session} ${yield* Clock.currentTimeMillis}`, 0)
  tell(process, kept)
  say(process, "= 0")
  if (!isFirst) return 0
  const left: Array<Fiber.Fiber<unknown, unknown>> = []
  const own = (fiber: Fiber.Fiber<unknown, unknown>) => {
    left.push(fiber)
    command.own(fiber)
  }
  const print = (stream: OutputStream, bytes: Uint8Array) => {
    const room = Number(blocks) * 512 - kept.bytesOf(outputs[stream]).length
    kept.append(outputs[stream], bytes.subarray(0, Math.max(0, room)), 0)
  }
  const spec = specOf(id, seconds, process.spec.env, called)
  const program = yield* Effect.forkDetach(execute({ own, print }, process, spec))
  own(program)
  const killed = Deferred.makeUnsafe<void>()
  runningIn(files).set(id, killed)
  const by = (word: CommandEnd["by"], code: number, failure = "") => ({ said: `${word} ${code}`, failure, word })
  const end = yield* Effect.raceAllFirst([
    Fiber.join(program).pipe(
      Effect.map((code) => by("exited", code)),
      Effect.catch((failure) => Effect.succeed(by("unstarted", 126, failure)))
    ),
    Effect.as(Deferred.await(killed), by("killed", 137)),
    Effect.as(Effect.sleep(spec.timeout), by("timedOut", 137))
  ])
  if (end.word === "killed" || end.word === "timedOut") yield* Fiber.interruptAll(left)
  runningIn(files).delete(id)
  kept.write("exit", `${end.said} ${yield* Clock.currentTimeMillis} ${end.failure}`, 0)
  return 0
})

const look: Script = (process, name = "", id = "") =>
  Effect.sync(() => {
    const kept = keptOf(process.files, name, id)
    if (kept.isThere()) tell(process, kept)
    return 0
  })

const nap = Effect.sleep("10 millis")

const watch: Script = Effect.fnUntraced(function* (process, name = "", id = "", session = "") {
  const kept = keptOf(process.files, name, id)
  while (kept.isThere() && kept.session() === session && !kept.hasEnded()) yield* nap
  if (kept.isThere()) tell(process, kept)
  return 0
})

const follow: Script = Effect.fnUntraced(function* (process, name = "", id = "", outAt = "", errAt = "", session = "") {
  const kept = keptOf(process.files, name, id)
  if (!kept.isThere()) {
    say(process, "none")
    return 0
  }
  const at = { out: Number(outAt), err: Number(errAt) }
  while (true) {
    const isOver = kept.hasEnded() || kept.session() !== session
    for (const stream of ["out", "err"] as const) {
      const fresh = kept.bytesOf(stream).subarray(at[stream])
      if (fresh.length > 0) say(process, `${stream} ${Buffer.from(fresh).toString("base64")}`)
      at[stream] += fresh.length
    }
    if (isOver) break
    yield* nap
  }
  say(process, "end")
  return 0
})

const kill: Script = Effect.fnUntraced(function* (process, name = "", id = "") {
  const kept = keptOf(process.files, name, id)
  if (!kept.isThere()) say(process, "none")
  const killed = runningIn(process.files).get(id)
  if (killed === undefined) return 0
  yield* Deferred.succeed(killed, undefined)
  while (!kept.hasEnded()) yield* nap
  return 0
})

const drop: Script = (process, name = "", id = "") =>
  Effect.sync(() => {
    const kept = keptOf(process.files, name, id)
    if (kept.hasEnded()) kept.remove()
    return 0
  })

const refuse = (process: MemoryProcess, words: string) => {
  say(process, `: ${words}`)
  return failedExitCode
}

const inHome = (script: (process: MemoryProcess, ...args: ReadonlyArray<string>) => number): Script =>
  telling((process, ...args) => Effect.sync(() => script(process, ...args)))

const readable = inHome(({ files }, at = "", path = "") =>
  files.read(resolve(at, path)) === undefined ? notFoundExitCode : 0
)

/** The message of a real system. */
const words: Record<string, string> = {
  "Its name is too long": "File name too long",
  "It is named like a directory": "Is a directory"
}

const piecesOf = (files: MemoryFiles, id: string) =>
  files
    .list("/var/tmp", 1)
    .map(({ path }) => `/var/tmp/${path}`)
    .filter((path) => path.startsWith(`${scripts.uploadPrefix}${id}-`))

const place: Script = telling(
  Effect.fnUntraced(function* (process, id = "", from = "", path = "", mode = "") {
    const { files } = process
    const done = `${scripts.uploadPrefix}${id}.done`
    if (files.read(done) !== undefined) return 0
    const at = resolve(from, path)
    if (files.isDirectory(at)) return notFoundExitCode
    if (files.isDangling(at)) return refuse(process, "Dangling symbolic link")
    const reason = refusalOf(path)
    if (reason !== undefined) return refuse(process, words[reason] ?? reason)
    if (!files.canHoldFile(at)) return refuse(process, "Not a directory")
    const now = yield* Clock.currentTimeMillis
    const pieces = piecesOf(files, id).map((piece) => files.read(piece) ?? new Uint8Array())
    const wanted = mode === "" ? undefined : fileModeOf(Number.parseInt(mode, 8))
    files.write(at, Uint8Array.from(Buffer.concat(pieces)), now, wanted)
    files.write(done, new Uint8Array(), now)
    return 0
  })
)

const forget = inHome(({ files }, id = "") => {
  for (const path of [...piecesOf(files, id), `${scripts.uploadPrefix}${id}.done`]) files.remove(path)
  return 0
})

const list = inHome((process, from = "", path = "", ...directories) => {
  const { files } = process
  if (!files.isDirectory(from)) return refuse(process, homeNotAccessible)
  const at = resolve(from, path)
  if (!files.isDirectory(at)) return notFoundExitCode
  const entries = directories.flatMap((directory) =>
    files.list(resolve(at, directory), 1).map(({ mode, modifiedAt, path, size, target, type }) => {
      const printed = `${directory}${directory.endsWith("/") ? "" : "/"}${path}`
      return [printed, type[0], size, modifiedAt.epochMilliseconds / 1000, mode, target ?? "", ""].join("\0")
    })
  )
  say(process, Buffer.from(entries.join("")).toString("base64"))
  return 0
})

const listens = inHome((process, port = "") => {
  if (process.listeners.has(Number.parseInt(port, 16))) say(process, "yes")
  return 0
})

const known = new Map<string | undefined, Script>([
  [scripts.runCommand, wrap],
  [scripts.inspectCommand, telling(look)],
  [scripts.awaitCommand, telling(watch)],
  [scripts.followOutput, telling(follow)],
  [scripts.killCommand, telling(kill)],
  [scripts.forgetCommand, telling(drop)],
  [scripts.checkReadable, readable],
  [scripts.placeUpload, place],
  [scripts.discardUpload, forget],
  [scripts.listDirectories, list],
  [scripts.isListening, listens]
])

/** The shell of sandboxes in memory, which runs the adapter's guest scripts. */
export const programs: MemoryPrograms = {
  sh: (process) => {
    const [, script, , ...args] = process.spec.args
    return known.get(script)?.(process, ...args) ?? Effect.succeed(2)
  }
}
