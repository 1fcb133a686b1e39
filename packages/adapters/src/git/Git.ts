/** The `git` program: an argument vector, an environment of its own, and nothing of the user's or the host's settings. */
import { Effect, Redacted, Schema, type Scope, Stream } from "effect"
import { spawn } from "node:child_process"
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs"
import { open } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"

/** The program ended with another code than 0, or could not be started (127). */
export class GitFailed extends Schema.TaggedError<GitFailed>()("GitFailed", {
  /** What it was asked for: its first argument. */
  operation: Schema.String,
  code: Schema.Int,
  /** What it said, for the log; never for a caller. */
  stderr: Schema.String
}) {}

export interface GitOptions {
  /** The repository it works on, as `--git-dir`. */
  readonly repository?: string
  /** Sent with each request to a server that begins with `url`; it stands in no argument and no file. */
  readonly authorization?: { readonly url: string; readonly header: Redacted.Redacted<string> } | undefined
}

/** Settings that hold for every call, whatever a repository or a user has configured. */
const settings: ReadonlyArray<readonly [string, string]> = [
  ["transfer.fsckObjects", "true"],
  ["core.hooksPath", "/dev/null"],
  ["credential.helper", ""],
  ["protocol.allow", "never"],
  ["protocol.file.allow", "always"],
  ["protocol.http.allow", "always"],
  ["protocol.https.allow", "always"],
  ["http.followRedirects", "false"],
  ["http.lowSpeedLimit", "1000"],
  ["http.lowSpeedTime", "60"],
  ["gc.auto", "0"],
  ["safe.directory", "*"]
]

const environment = ({ authorization }: GitOptions): Record<string, string> => {
  const all =
    authorization === undefined
      ? settings
      : [
          ...settings,
          [`http.${authorization.url}.extraHeader`, `Authorization: ${Redacted.value(authorization.header)}`] as const
        ]
  return {
    PATH: "/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin",
    HOME: "/nonexistent",
    LC_ALL: "C",
    GIT_CONFIG_NOSYSTEM: "1",
    GIT_CONFIG_GLOBAL: "/dev/null",
    GIT_TERMINAL_PROMPT: "0",
    GIT_CONFIG_COUNT: String(all.length),
    ...Object.fromEntries(
      all.flatMap(([key, value], n) => [
        [`GIT_CONFIG_KEY_${n}`, key],
        [`GIT_CONFIG_VALUE_${n}`, value]
      ])
    )
  }
}

/** Bytes of standard error that are kept. */
const saidKept = 16 * 1024

/** Runs git to its end and gives the bytes it printed; an interruption kills it. */
export const bytes = (args: ReadonlyArray<string>, options: GitOptions = {}): Effect.Effect<Buffer, GitFailed> =>
  Effect.callback((resume) => {
    const vector = options.repository === undefined ? args : ["--git-dir", options.repository, ...args]
    const child = spawn("git", vector, {
      cwd: tmpdir(),
      env: environment(options),
      stdio: ["ignore", "pipe", "pipe"],
      detached: true
    })
    const printed: Array<Buffer> = []
    let said = ""
    child.stdout.on("data", (chunk: Buffer) => printed.push(chunk))
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
      said = (said + chunk).slice(-saidKept)
    })
    const failed = (code: number, stderr: string) =>
      resume(Effect.fail(new GitFailed({ operation: args[0]!, code, stderr })))
    child.on("error", (cause) => failed(127, cause.message))
    child.on("close", (code) =>
      code === 0 ? resume(Effect.succeed(Buffer.concat(printed))) : failed(code ?? 137, said)
    )
    return Effect.sync(() => {
      // Its helpers for a protocol are processes of their own, in its group.
      if (child.pid !== undefined && child.exitCode === null) process.kill(-child.pid, "SIGKILL")
    })
  })

/** Runs git and gives what it printed, without the newline at its end. */
export const text = (args: ReadonlyArray<string>, options?: GitOptions): Effect.Effect<string, GitFailed> =>
  Effect.map(bytes(args, options), (printed) => printed.toString("utf8").replace(/\n$/, ""))

/** Whether git ended with 0, where 1 means no. */
export const holds = (args: ReadonlyArray<string>, options?: GitOptions): Effect.Effect<boolean, GitFailed> =>
  bytes(args, options).pipe(
    Effect.as(true),
    Effect.catchIf(
      (failed) => failed.code === 1,
      () => Effect.succeed(false)
    )
  )

const prefix = "castellan-git-"

/** A directory of this process that is gone when the scope closes. */
export const workspace: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), `${prefix}${process.pid}-`))),
  (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
)

/** Removes what processes left that were killed. */
export const sweep: Effect.Effect<void> = Effect.sync(() => {
  for (const name of readdirSync(tmpdir())) {
    const pid = name.startsWith(prefix) ? /^\d+/.exec(name.slice(prefix.length))?.[0] : undefined
    if (pid === undefined || isAlive(Number(pid))) continue
    rmSync(join(tmpdir(), name), { recursive: true, force: true })
  }
})

const isAlive = (pid: number): boolean => {
  if (existsSync("/proc/self")) return existsSync(`/proc/${pid}`)
  try {
    process.kill(pid, 0)
    return true
  } catch (cause) {
    return (cause as { code?: string }).code === "EPERM"
  }
}

/** Writes a stream to a new file. */
export const save = <E>(file: string, content: Stream.Stream<Uint8Array, E>): Effect.Effect<void, E> =>
  Effect.scoped(
    Effect.gen(function* () {
      const handle = yield* Effect.acquireRelease(
        Effect.promise(() => open(file, "wx", 0o600)),
        (handle) => Effect.promise(() => handle.close())
      )
      yield* Stream.runForEach(content, (chunk) => Effect.promise(() => handle.writeFile(chunk)))
    })
  )

/** The bytes of a file that exists. */
export const load = (file: string): Stream.Stream<Uint8Array> =>
  Stream.unwrap(
    Effect.map(
      Effect.acquireRelease(
        Effect.promise(() => open(file, "r")),
        (handle) => Effect.promise(() => handle.close())
      ),
      (handle) => {
        const next = Effect.promise(() => handle.read(Buffer.allocUnsafe(64 * 1024)))
        return Stream.fromEffectRepeat(next).pipe(
          Stream.takeWhile(({ bytesRead }) => bytesRead > 0),
          Stream.map(({ buffer, bytesRead }) => new Uint8Array(buffer.buffer, buffer.byteOffset, bytesRead))
        )
      }
    )
  )
