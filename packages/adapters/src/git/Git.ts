/** The `git` program: an argument vector, an environment of its own, and nothing of the user's or the host's settings. */
import { Duration, Effect, Redacted, Schema, type Scope, Stream } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import { mkdtempSync, readdirSync, rmSync } from "node:fs"
import { open } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { isAlive } from "../process/processStat.ts"
import * as Fsck from "./Fsck.ts"

/** The program ended with another code than 0, or could not be started (127). */
export class GitFailed extends Schema.TaggedError<GitFailed>()("GitFailed", {
  /** What it was asked for: its first argument that is no option. */
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
  /** What holds for this call beside `settings`, or in their place. */
  readonly settings?: ReadonlyArray<readonly [string, string]>
  /** Whether git may fetch objects that the repository lacks: only for repositories that nobody else configures. */
  readonly fetchesMissing?: boolean
  /** `usualLimits` if not said. */
  readonly limits?: GitLimits | undefined
  /** The most bytes that git may print; 16 MiB by default. More fails with code `printedTooMuch`. */
  readonly maxOutput?: number
  /** How long it may run; 2 minutes if not said. Longer is a failure, of code `tookTooLong`. */
  readonly timeout?: Duration.Duration
}

/** Git printed more than it was to. */
export const outputTooLarge = 125

/** Git did not end in time and was killed. */
export const timedOut = 124

/** What git and the programs it starts may use. The system ends a program that asks for more. */
export interface GitLimits {
  /** Bytes of one file. */
  readonly fileSize: number
  /** Bytes of memory of one process; not every system counts it. */
  readonly memory: number
}

/** What git may use where nothing else is said. A repository of several GiB needs far less memory with `settings`. */
export const defaultLimits: GitLimits = { fileSize: 4 * 1024 ** 3, memory: 4 * 1024 ** 3 }

const usualMost = 16 * 1024 * 1024
const usualWithin = Duration.minutes(2)

/** Settings that hold for every call, whatever a repository or a user has configured. */
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
  // Git is to write one pack, whose size is limited, and not many single objects.
  ["fetch.unpackLimit", "1"],
  // Larger files pass through in pieces, and are not compared with others. Packs are mapped in windows.
  ["core.bigFileThreshold", "16m"],
  ["core.packedGitLimit", "512m"],
  ["core.packedGitWindowSize", "32m"],
  ["core.deltaBaseCacheLimit", "64m"],
  ["pack.windowMemory", "64m"],
  ["pack.deltaCacheSize", "64m"],
  // One repository's work takes one core.
  ["pack.threads", "1"],
  ...[...Fsck.harmlessFaults, ...Fsck.fetchOnlyFaults].map((fault) => [`fetch.fsck.${fault}`, "ignore"] as const)
]

/** As `git -c` hands settings to the programs it starts; every version reads them, and no argument shows them. */
const asParameters = (all: ReadonlyArray<readonly [string, string]>): string =>
  all.map(([key, value]) => `'${`${key}=${value}`.replace(/['!]/g, (special) => `'\\${special}'`)}'`).join(" ")

const environment = ({ authorization, fetchesMissing, settings: more = [] }: GitOptions): Record<string, string> => {
  const header = authorization && Redacted.value(authorization.header)
  const secret = header && ([`http.${authorization.url}.extraHeader`, `Authorization: ${header}`] as const)
  const all = [...settings, ...more, ...(secret ? [secret] : [])]
  return {
    PATH: "/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin",
    HOME: "/nonexistent",
    LC_ALL: "C",
    GIT_CONFIG_NOSYSTEM: "1",
    GIT_CONFIG_GLOBAL: "/dev/null",
    GIT_TERMINAL_PROMPT: "0",
    // As settings, a repository's own `protocol.ext.allow` would be stronger.
    GIT_ALLOW_PROTOCOL: "file:http:https",
    GIT_NO_LAZY_FETCH: fetchesMissing ? "0" : "1",
    GIT_CONFIG_PARAMETERS: asParameters(all)
  }
}

/**
 * Sets the limits, in blocks of 512 bytes and in KiB, and becomes git, which gets an error for a file that is too large
 * and not a signal. A system without the second limit goes on.
 */
const limiting = 'trap "" XFSZ; ulimit -f "$1" && { ulimit -v "$2" 2> /dev/null || :; } && shift 2 && exec git "$@"'

/** The program to start, with its arguments. */
const limited = (
  vector: ReadonlyArray<string>,
  limits: GitLimits
): readonly [program: string, args: ReadonlyArray<string>] => {
  const blocks = [limits.fileSize / 512, limits.memory / 1024].map((count) => String(Math.ceil(count)))
  return ["/bin/sh", ["-c", limiting, "git", ...blocks, ...vector]]
}

/** Bytes of standard error that are kept. */
const saidKept = 16 * 1024

const operationOf = (args: ReadonlyArray<string>) => args.find((arg) => !arg.startsWith("-")) ?? args.join(" ")

/** Runs git to its end, or until `take` has enough of what it prints and says false. An interruption ends it. */
export const run = (
  args: ReadonlyArray<string>,
  options: Omit<GitOptions, "most">,
  take: (chunk: Buffer) => boolean
): Effect.Effect<void, GitFailed> => {
  const vector = options.repository === undefined ? args : ["--git-dir", options.repository, ...args]
  const operation = operationOf(args)
  const { timeout: within = usualWithin } = options
  return Effect.callback<void, GitFailed>((resume) => {
    const [program, words] = limited(vector, options.limits ?? defaultLimits)
    const child = spawn(program, words, {
      cwd: tmpdir(),
      env: environment(options),
      stdio: ["ignore", "pipe", "pipe"],
      detached: true
    })
    let said = ""
    let isEnough = false
    let hasEnded = false
    child.stdout.on("data", (chunk: Buffer) => {
      if (isEnough || take(chunk)) return
      isEnough = true
      signal(child, "SIGKILL")
    })
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
      said = (said + chunk).slice(-saidKept)
    })
    const end = (code: number, stderr: string) => {
      hasEnded = true
      resume(isEnough || code === 0 ? Effect.void : Effect.fail(new GitFailed({ operation, code, stderr })))
    }
    child.on("error", (cause) => end(127, cause.message))
    child.on("close", (code) => end(code ?? 137, said))
    return Effect.callback<void>((stopped) => {
      if (hasEnded) return stopped(Effect.void)
      // Asked first, so that it takes its locks along.
      const timer = setTimeout(() => signal(child, "SIGKILL"), patience)
      child.once("close", () => {
        clearTimeout(timer)
        stopped(Effect.void)
      })
      signal(child, "SIGTERM")
    })
  }).pipe(
    Effect.timeoutOrElse({
      duration: within,
      orElse: () =>
        Effect.fail(new GitFailed({ operation, code: timedOut, stderr: `no end in ${Duration.format(within)}` }))
    })
  )
}

/** Runs git to its end and gives the bytes it printed. */
export const output = (
  args: ReadonlyArray<string>,
  { maxOutput: most = usualMost, ...options }: GitOptions = {}
): Effect.Effect<Buffer, GitFailed> =>
  Effect.suspend(() => {
    const printed: Array<Buffer> = []
    let size = 0
    const keep = (chunk: Buffer) => {
      size += chunk.length
      if (size > most) return false
      printed.push(chunk)
      return true
    }
    return Effect.flatMap(run(args, options, keep), () =>
      size > most
        ? Effect.fail(
            new GitFailed({
              operation: operationOf(args),
              code: outputTooLarge,
              stderr: `more than ${most} bytes were printed`
            })
          )
        : Effect.succeed(Buffer.concat(printed))
    )
  })

/** Milliseconds that git has to end when it is asked to. */
const patience = 2000

/** To git and its helpers for a protocol, which are processes of their own in its group. */
const signal = ({ pid }: ChildProcess, name: NodeJS.Signals): void => {
  try {
    if (pid !== undefined) process.kill(-pid, name)
  } catch {
    // It is gone.
  }
}

/** Runs git and gives what it printed, without the newline at its end. */
export const text = (args: ReadonlyArray<string>, options?: GitOptions): Effect.Effect<string, GitFailed> =>
  Effect.map(output(args, options), (printed) => printed.toString("utf8").replace(/\n$/, ""))

/** Whether git ended with 0, where 1 means no. */
export const succeeds = (args: ReadonlyArray<string>, options?: GitOptions): Effect.Effect<boolean, GitFailed> =>
  output(args, options).pipe(
    Effect.as(true),
    Effect.catchIf(
      (failed) => failed.code === 1,
      () => Effect.succeed(false)
    )
  )

/** Git is not installed, or too old; the message says what to do. */
export class GitMissing extends Schema.TaggedError<GitMissing>()("GitMissing", { message: Schema.String }) {}

/** The oldest version that has all that is used here. */
const oldest = [2, 30] as const

/** Whether what `git --version` says will do. */
export const checkVersion = (version: Effect.Effect<string, GitFailed>): Effect.Effect<void, GitMissing> =>
  version.pipe(
    Effect.mapError(({ stderr }) => `it could not be started (${stderr.trim()})`),
    Effect.flatMap((said) => {
      const [major = 0, minor = 0] = (/(\d+)\.(\d+)/.exec(said)?.slice(1) ?? []).map(Number)
      const isOld = major < oldest[0] || (major === oldest[0] && minor < oldest[1])
      return isOld ? Effect.fail(`there is only "${said}"`) : Effect.void
    }),
    Effect.mapError(
      (why) => new GitMissing({ message: `Repositories need the program git, ${oldest.join(".")} or newer: ${why}` })
    )
  )

/** Makes sure that git can be used. */
export const ensureInstalled: Effect.Effect<void, GitMissing> = checkVersion(text(["--version"]))

const prefix = "castellan-git-"

/** A directory of this process that is gone when the scope closes. */
export const workspace: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), `${prefix}${process.pid}-`))),
  (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
)

/** Removes what processes left that were killed; what is somebody else's, or still written to, stays. */
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

/** Bytes of a file that are read at once. */
export const chunkSize = 64 * 1024

/** The bytes of a file that exists. */
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
