/** Runs the `git` program with limits on time and resources, independent of the user's and the host's configuration. */
import { Duration, Effect, Redacted, Schema, type Scope, Stream } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import { mkdtempSync, readdirSync, rmSync } from "node:fs"
import { open } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { isAlive } from "../process/processStat.ts"
import * as Fsck from "./Fsck.ts"

/** Git ended with a code other than 0, or could not be started (code 127). */
export class GitFailed extends Schema.TaggedError<GitFailed>()("GitFailed", {
  /** The subcommand: the first argument that is not an option. */
  operation: Schema.String,
  code: Schema.Int,
  /** For the log; never shown to callers. */
  stderr: Schema.String
}) {}

export interface GitOptions {
  /** The repository, as `--git-dir`. */
  readonly repository?: string
  /** The `Authorization` header of requests to URLs below `url`. Passed in no argument and no file. */
  readonly authorization?: { readonly url: string; readonly header: Redacted.Redacted<string> } | undefined
  /** Settings of this call; they override the defaults. */
  readonly settings?: ReadonlyArray<readonly [string, string]>
  /** Whether git may fetch objects that the repository lacks. Only safe for repositories that no tenant configures. */
  readonly fetchesMissing?: boolean
  /** `defaultLimits` by default. */
  readonly limits?: GitLimits | undefined
  /** The most bytes that git may print; 16 MiB by default. More fails with code `outputTooLarge`. */
  readonly maxOutput?: number
  /** How long git may run; 2 minutes by default. Longer fails with code `timedOut`. */
  readonly timeout?: Duration.Duration
}

/** The code of a failure because of too much output. */
export const outputTooLarge = 125

/** The code of a failure after the timeout. */
export const timedOut = 124

/** Limits of git and of the programs that it starts, enforced by the system. */
export interface GitLimits {
  /** Bytes of the largest file that it may write. */
  readonly fileSize: number
  /** Bytes of memory of one process. Not every system enforces it. */
  readonly memory: number
}

/** The default limits. With `settings`, a repository of several GiB needs far less memory. */
export const defaultLimits: GitLimits = { fileSize: 4 * 1024 ** 3, memory: 4 * 1024 ** 3 }

const defaultMaxOutput = 16 * 1024 * 1024
const defaultTimeout = Duration.minutes(2)

/** Settings of every call. They override the configuration of the repository and the user. */
const settings: ReadonlyArray<readonly [string, string]> = [
  ["transfer.fsckObjects", "true"],
  ["core.hooksPath", "/dev/null"],
  ["credential.helper", ""],
  ["core.fsmonitor", "false"],
  ["http.followRedirects", "false"],
  ["http.lowSpeedLimit", "1000"],
  ["http.lowSpeedTime", "60"],
  ["gc.auto", "0"],
  ["fetch.recurseSubmodules", "false"],
  ["core.filesRefLockTimeout", "10000"],
  ["core.packedRefsTimeout", "10000"],
  ["safe.directory", "*"],
  // Write one pack, whose size is limited, instead of many loose objects.
  ["fetch.unpackLimit", "1"],
  // Stream larger files, and search no deltas for them. Map packs in windows.
  ["core.bigFileThreshold", "16m"],
  ["core.packedGitLimit", "512m"],
  ["core.packedGitWindowSize", "32m"],
  ["core.deltaBaseCacheLimit", "64m"],
  ["pack.windowMemory", "64m"],
  ["pack.deltaCacheSize", "64m"],
  // Use one core per repository.
  ["pack.threads", "1"],
  ...[...Fsck.harmlessFaults, ...Fsck.fetchOnlyFaults].map((fault) => [`fetch.fsck.${fault}`, "ignore"] as const)
]

/** Encodes settings as `git -c` passes them to child processes: every version reads them, and arguments don't show them. */
const encodeSettings = (all: ReadonlyArray<readonly [string, string]>): string =>
  all.map(([key, value]) => `'${`${key}=${value}`.replace(/['!]/g, (special) => `'\\${special}'`)}'`).join(" ")

const environment = ({
  authorization,
  fetchesMissing,
  settings: callSettings = []
}: GitOptions): Record<string, string> => {
  const header = authorization && Redacted.value(authorization.header)
  const secret = header && ([`http.${authorization.url}.extraHeader`, `Authorization: ${header}`] as const)
  const all = [...settings, ...callSettings, ...(secret ? [secret] : [])]
  return {
    PATH: "/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin",
    HOME: "/nonexistent",
    LC_ALL: "C",
    GIT_CONFIG_NOSYSTEM: "1",
    GIT_CONFIG_GLOBAL: "/dev/null",
    GIT_TERMINAL_PROMPT: "0",
    // A setting would be weaker than the repository's own `protocol.ext.allow`.
    GIT_ALLOW_PROTOCOL: "file:http:https",
    GIT_NO_LAZY_FETCH: fetchesMissing ? "0" : "1",
    GIT_CONFIG_PARAMETERS: encodeSettings(all)
  }
}

/**
 * Sets the limits, in blocks of 512 bytes and in KiB, and becomes git. Ignoring SIGXFSZ gives git an error for a file that is
 * too large. Systems without a memory limit skip it.
 */
const limitScript = 'trap "" XFSZ; ulimit -f "$1" && { ulimit -v "$2" 2> /dev/null || :; } && shift 2 && exec git "$@"'

/** The program and arguments that run git under limits. */
const withLimits = (
  vector: ReadonlyArray<string>,
  limits: GitLimits
): readonly [program: string, args: ReadonlyArray<string>] => {
  const blocks = [limits.fileSize / 512, limits.memory / 1024].map((count) => String(Math.ceil(count)))
  return ["/bin/sh", ["-c", limitScript, "git", ...blocks, ...vector]]
}

/** Bytes of standard error that are kept. */
const stderrKept = 16 * 1024

const operationOf = (args: ReadonlyArray<string>) => args.find((arg) => !arg.startsWith("-")) ?? args.join(" ")

/** Runs git to its end, or until `take` returns false for a chunk of its output. Interruption ends it. */
export const run = (
  args: ReadonlyArray<string>,
  options: Omit<GitOptions, "maxOutput">,
  take: (chunk: Buffer) => boolean
): Effect.Effect<void, GitFailed> => {
  const vector = options.repository === undefined ? args : ["--git-dir", options.repository, ...args]
  const operation = operationOf(args)
  const { timeout = defaultTimeout } = options
  return Effect.callback<void, GitFailed>((resume) => {
    const [program, words] = withLimits(vector, options.limits ?? defaultLimits)
    const child = spawn(program, words, {
      cwd: tmpdir(),
      env: environment(options),
      stdio: ["ignore", "pipe", "pipe"],
      detached: true
    })
    let stderr = ""
    let isEnough = false
    let hasEnded = false
    child.stdout.on("data", (chunk: Buffer) => {
      if (isEnough || take(chunk)) return
      isEnough = true
      signal(child, "SIGKILL")
    })
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
      stderr = (stderr + chunk).slice(-stderrKept)
    })
    const end = (code: number, stderr: string) => {
      hasEnded = true
      resume(isEnough || code === 0 ? Effect.void : Effect.fail(new GitFailed({ operation, code, stderr })))
    }
    child.on("error", (cause) => end(127, cause.message))
    child.on("close", (code) => end(code ?? 137, stderr))
    return Effect.callback<void>((stopped) => {
      if (hasEnded) return stopped(Effect.void)
      // SIGTERM first, so that git removes its locks.
      const timer = setTimeout(() => signal(child, "SIGKILL"), terminationGrace)
      child.once("close", () => {
        clearTimeout(timer)
        stopped(Effect.void)
      })
      signal(child, "SIGTERM")
    })
  }).pipe(
    Effect.timeoutOrElse({
      duration: timeout,
      orElse: () =>
        Effect.fail(
          new GitFailed({ operation, code: timedOut, stderr: `not finished after ${Duration.format(timeout)}` })
        )
    })
  )
}

/** Runs git and returns the bytes that it printed. */
export const output = (
  args: ReadonlyArray<string>,
  { maxOutput = defaultMaxOutput, ...options }: GitOptions = {}
): Effect.Effect<Buffer, GitFailed> =>
  Effect.suspend(() => {
    const printed: Array<Buffer> = []
    let size = 0
    const keep = (chunk: Buffer) => {
      size += chunk.length
      if (size > maxOutput) return false
      printed.push(chunk)
      return true
    }
    return Effect.flatMap(run(args, options, keep), () =>
      size > maxOutput
        ? Effect.fail(
            new GitFailed({
              operation: operationOf(args),
              code: outputTooLarge,
              stderr: `more than ${maxOutput} bytes were printed`
            })
          )
        : Effect.succeed(Buffer.concat(printed))
    )
  })

/** Milliseconds between SIGTERM and SIGKILL. */
const terminationGrace = 2000

/** Signals git and its protocol helpers, which are in its process group. */
const signal = ({ pid }: ChildProcess, name: NodeJS.Signals): void => {
  try {
    if (pid !== undefined) process.kill(-pid, name)
  } catch {
    // The process has ended.
  }
}

/** Runs git and returns the text that it printed, without the final newline. */
export const text = (args: ReadonlyArray<string>, options?: GitOptions): Effect.Effect<string, GitFailed> =>
  Effect.map(output(args, options), (printed) => printed.toString("utf8").replace(/\n$/, ""))

/** Whether git ends with 0 rather than 1. Other codes fail. */
export const succeeds = (args: ReadonlyArray<string>, options?: GitOptions): Effect.Effect<boolean, GitFailed> =>
  output(args, options).pipe(
    Effect.as(true),
    Effect.catchIf(
      (failed) => failed.code === 1,
      () => Effect.succeed(false)
    )
  )

/** Git is not installed or too old. The message says what to do. */
export class GitMissing extends Schema.TaggedError<GitMissing>()("GitMissing", { message: Schema.String }) {}

/** The oldest supported version. */
const oldestVersion = [2, 30] as const

/** Fails unless the output of `git --version` is that of a supported version. */
export const checkVersion = (version: Effect.Effect<string, GitFailed>): Effect.Effect<void, GitMissing> =>
  version.pipe(
    Effect.mapError(({ stderr }) => `it can't be started (${stderr.trim()})`),
    Effect.flatMap((printed) => {
      const [major = 0, minor = 0] = (/(\d+)\.(\d+)/.exec(printed)?.slice(1) ?? []).map(Number)
      const isOld = major < oldestVersion[0] || (major === oldestVersion[0] && minor < oldestVersion[1])
      return isOld ? Effect.fail(`"${printed}" is installed`) : Effect.void
    }),
    Effect.mapError(
      (why) =>
        new GitMissing({ message: `Repositories need the program git, ${oldestVersion.join(".")} or newer: ${why}` })
    )
  )

/** Checks that a supported git is installed. */
export const ensureInstalled: Effect.Effect<void, GitMissing> = checkVersion(text(["--version"]))

const prefix = "castellan-git-"

/** A temporary directory that is deleted when the scope closes. */
export const workspace: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), `${prefix}${process.pid}-`))),
  (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
)

/** Removes temporary directories of processes that were killed. Skips those that can't be removed. */
export const removeStaleWorkspaces: Effect.Effect<void> = Effect.sync(() => {
  for (const name of readdirSync(tmpdir())) {
    const pid = name.startsWith(prefix) ? /^\d+/.exec(name.slice(prefix.length))?.[0] : undefined
    if (pid === undefined || isAlive(Number(pid))) continue
    try {
      rmSync(join(tmpdir(), name), { recursive: true, force: true, maxRetries: 3 })
    } catch {
      continue
    }
  }
})

/** Writes a stream to a new file. */
export const writeFile = <E>(file: string, content: Stream.Stream<Uint8Array, E>): Effect.Effect<void, E> =>
  Effect.scoped(
    Effect.gen(function* () {
      const handle = yield* Effect.acquireRelease(
        Effect.promise(() => open(file, "wx", 0o600)),
        (handle) => Effect.promise(() => handle.close())
      )
      yield* Stream.runForEach(content, (chunk) => Effect.promise(() => handle.writeFile(chunk)))
    })
  )

/** Bytes of a chunk that `readFile` reads. */
export const chunkSize = 64 * 1024

/** The bytes of a file, which must exist. */
export const readFile = (file: string): Stream.Stream<Uint8Array> =>
  Stream.unwrap(
    Effect.map(
      Effect.acquireRelease(
        Effect.promise(() => open(file, "r")),
        (handle) => Effect.promise(() => handle.close())
      ),
      (handle) => {
        const next = Effect.promise(() => handle.read(Buffer.allocUnsafe(chunkSize)))
        return Stream.fromEffectRepeat(next).pipe(
          Stream.takeWhile(({ bytesRead }) => bytesRead > 0),
          Stream.map(({ buffer, bytesRead }) => new Uint8Array(buffer.buffer, buffer.byteOffset, bytesRead))
        )
      }
    )
  )
