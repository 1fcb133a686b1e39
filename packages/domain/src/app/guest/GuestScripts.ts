import { Context, Duration, Effect, Layer, Option, Schedule, Schema, Semaphore, Stream } from "effect"
import { SecureRandom } from "effect/crypto/SecureRandom"
import { newNonce } from "../../newNonce.ts"
import { type CommandEnd, CommandId, type Output, OutputPosition } from "../../sandbox/Command.ts"
import { readFirst, toText } from "../../sandbox/OutputText.ts"
import type { Port } from "../../sandbox/Port.ts"
import type { Sandbox } from "../../sandbox/Sandbox.ts"
import { SandboxPath } from "../../sandbox/SandboxFile.ts"
import type { SandboxName } from "../../sandbox/SandboxName.ts"
import {
  type CommandNotFound,
  type SandboxGone,
  type SandboxNotRunning,
  SandboxProvider,
  type SandboxUnavailable
} from "../../sandbox/SandboxProvider.ts"
import { decode, encode } from "../../utf8.ts"
import { AppliedFiles, applyFiles } from "./applyFiles.ts"
import { CompileResult, compilePage } from "./compilePage.ts"
import { collectFindings, Findings } from "./collectFindings.ts"
import { InstallResult, installPackages } from "./installPackages.ts"
import { devServerSupervisor } from "./DevServerSupervisor.ts"
import {
  argumentsOf,
  limits,
  Line,
  type Listing,
  listFiles,
  type ListingOptions,
  longestLine,
  mostLines
} from "./listFiles.ts"
import { RestartResult, restartDevServer } from "./restartDevServer.ts"
import { maxAnswerBytes, type Script } from "./Script.ts"
import { bareName, type PackageName } from "../project/PackageName.ts"
import type { ProjectPath } from "../project/ProjectPath.ts"
import { project } from "../project/Scaffold.ts"

/** A guest script failed. `reason` is a sentence for the sandbox's owner. */
export class GuestScriptFailed extends Schema.TaggedError<GuestScriptFailed>()("GuestScriptFailed", {
  reason: Schema.String
}) {}

/** A file to write into a project. */
export interface ProjectFile {
  readonly path: ProjectPath
  readonly content: string
}

type Idle = SandboxGone | SandboxNotRunning | SandboxUnavailable

/** Time limit of every script except an install. */
const defaultTimeout = Duration.minutes(2)

/** The longest that another script may hold the project's lock: an install with its follow-up, and some slack. */
const lockTimeout = Duration.minutes(5)

/** Size limit of a listing in characters: all contents with every character escaped, and the names. */
const maxListingLength = 6 * limits.all + 4 * limits.names

/** Script outputs read concurrently; bounds memory, since each may be large. */
const maxConcurrentReads = 8

/** Bytes of a failed script's stderr that are logged. */
const maxStderrBytes = 8 * 1024

/** Bytes of file names passed in one argument; Linux accepts 128 KiB. */
const maxNamesBytes = 100 * 1024

/** Time for the package manager to exit after its own deadline. */
const installGrace = Duration.seconds(30)

/** Timeout of the supervisor; longer than any sandbox lives. */
const supervisorTimeout = Duration.days(30)

/** How many times the supervisor is started in one incarnation of a sandbox. */
const maxSupervisorStarts = 100

/** Interval between readiness probes of a page, and the timeout of one probe. */
const probeInterval = Duration.millis(50)
const probeTimeout = Duration.seconds(10)

/** Runs scripts inside the sandbox of an app. Callers check who owns it. */
export class GuestScripts extends Context.Service<
  GuestScripts,
  {
    /** Ensures that a supervisor runs the dev server in this incarnation of the sandbox. Idempotent. */
    readonly serve: (sandbox: Sandbox, port: Port) => Effect.Effect<void, Idle>
    /** Ensures that a supervisor runs, and has it replace the dev server, which may hang. */
    readonly restart: (sandbox: Sandbox, port: Port) => Effect.Effect<void, GuestScriptFailed | Idle>
    /** Completes once the page answers; none if it does not answer within `atMost`. */
    readonly awaitAnswer: (
      name: SandboxName,
      port: Port,
      atMost: Duration.Duration
    ) => Effect.Effect<Option.Option<void>, Idle>
    /** A page of the files of the project. */
    readonly list: (name: SandboxName, options: ListingOptions) => Effect.Effect<Listing, GuestScriptFailed | Idle>
    /** Writes files. Waits for the project's lock. */
    readonly apply: (
      name: SandboxName,
      files: ReadonlyArray<ProjectFile>
    ) => Effect.Effect<AppliedFiles, GuestScriptFailed | Idle>
    /** Installs packages, or all dependencies of the project if none are named. Waits for the project's lock. */
    readonly install: (
      name: SandboxName,
      packages: ReadonlyArray<PackageName>,
      atMost: Duration.Duration
    ) => Effect.Effect<InstallResult, GuestScriptFailed | Idle>
    /** Compile errors of the page and of `files`, which have just been written. */
    readonly compile: (
      name: SandboxName,
      port: Port,
      files: ReadonlyArray<string>
    ) => Effect.Effect<CompileResult, GuestScriptFailed | Idle>
    /** Collects the facts for a diagnosis. */
    readonly diagnose: (name: SandboxName, port: Port) => Effect.Effect<Findings, GuestScriptFailed | Idle>
  }
>()("domain/app/GuestScripts") {
  static readonly layer = Layer.effect(
    GuestScripts,
    Effect.gen(function* () {
      const provider = yield* SandboxProvider
      const random = yield* SecureRandom
      const reading = yield* Semaphore.make(maxConcurrentReads)
      const scope = yield* Effect.scope

      /** Runs a script to its end and decodes its output. An interruption does not stop it, so its change is not cut off. */
      const runReading = Effect.fnUntraced(function* <A>(
        name: SandboxName,
        read: (output: Printed) => Effect.Effect<Option.Option<A>, Failed>,
        script: Script,
        args: ReadonlyArray<string>,
        timeout = defaultTimeout
      ) {
        const { id, ...wanted } = spec(`app_${yield* newNonce(random)}`, script, args, timeout)
        yield* provider.start(name, { id, ...wanted })
        const { end } = yield* provider.wait(name, id).pipe(Effect.catchTag("CommandNotFound", Effect.die))
        const printed = provider.output(name, id, OutputPosition.only("stdout"))
        if (end?.by === "exited" && end.exitCode === 0) {
          const found = yield* orDie(reading.withPermit(read(printed)))
          if (Option.isSome(found)) {
            // In the background: the output is not read again, and a client may list files every other second.
            yield* Effect.forkIn(Effect.ignore(provider.forget(name, id)), scope, { startImmediately: true })
            return found.value
          }
        }
        const stderr = provider.output(name, id, OutputPosition.only("stderr"))
        yield* Effect.logWarning("Guest script failed", {
          sandbox: name,
          end,
          stderr: (yield* orDie(readFirst(stderr, maxStderrBytes))).text
        })
        return yield* new GuestScriptFailed({ reason: reasonOf(end) })
      })

      /** Runs a script whose output is one JSON value. */
      const run = <A>(
        name: SandboxName,
        answer: Schema.Codec<A, unknown>,
        script: Script,
        args: ReadonlyArray<string>,
        timeout = defaultTimeout
      ) =>
        runReading(
          name,
          (printed) =>
            Effect.map(readFirst(printed, maxAnswerBytes), ({ text, truncated }) =>
              truncated ? Option.none() : Schema.decodeUnknownOption(Schema.fromJsonString(answer))(text)
            ),
          script,
          args,
          timeout
        )

      const serve = Effect.fn("GuestScripts.serve")(function* ({ incarnation, name }: Sandbox, port: Port) {
        // Each incarnation starts without a supervisor. Each start has an id of its own, so one that ended is replaced.
        const run = incarnation.replaceAll(/[^A-Za-z0-9]/g, "").slice(-32)
        for (let n = 0; n < maxSupervisorStarts; n++) {
          const { end } = yield* provider.start(
            name,
            spec(`dev_${run}_${n}`, devServerSupervisor, [String(port)], supervisorTimeout)
          )
          if (end === null) return
        }
      })

      const restart = Effect.fn("GuestScripts.restart")(function* (sandbox: Sandbox, port: Port) {
        yield* serve(sandbox, port)
        yield* run(sandbox.name, RestartResult, restartDevServer, [])
      })

      const awaitAnswer = Effect.fn("GuestScripts.awaitAnswer")(
        (name: SandboxName, port: Port, atMost: Duration.Duration) =>
          Effect.repeat(isAnswering(provider, name, port), {
            until: (answered) => answered,
            schedule: Schedule.spaced(probeInterval)
          }).pipe(Effect.timeoutOption(atMost), Effect.map(Option.asVoid))
      )

      const apply = Effect.fn("GuestScripts.apply")(function* (name: SandboxName, files: ReadonlyArray<ProjectFile>) {
        const bundle = SandboxPath.make(`/tmp/castellan-${yield* newNonce(random)}.json`)
        yield* provider
          .writeFile(name, bundle, Stream.make(encode(JSON.stringify(files))))
          .pipe(Effect.catchTags({ FileNotFound: noSpace, FileRefused: noSpace }))
        return yield* run(name, AppliedFiles, applyFiles, [bundle], Duration.sum(defaultTimeout, lockTimeout))
      })

      const install = Effect.fn("GuestScripts.install")(function* (
        name: SandboxName,
        packages: ReadonlyArray<PackageName>,
        atMost: Duration.Duration
      ) {
        const names = [...new Set(packages.map(bareName))]
        const args = [String(Duration.toMillis(atMost)), JSON.stringify(names), ...packages]
        return yield* run(
          name,
          InstallResult,
          installPackages,
          args,
          Duration.sum(Duration.sum(atMost, lockTimeout), Duration.sum(defaultTimeout, installGrace))
        )
      })

      return GuestScripts.of({
        serve,
        restart,
        awaitAnswer,
        list: (name, options) =>
          runReading(name, (printed) => listingFrom(printed, options.contents), listFiles, argumentsOf(options)),
        apply,
        install,
        compile: (name, port, files) =>
          run(name, CompileResult, compilePage, [String(port), JSON.stringify(fitting(files))]),
        diagnose: (name, port) => run(name, Findings, collectFindings, [String(port)])
      })
    })
  )
}

const spec = (id: string, script: Script, args: ReadonlyArray<string>, timeout: Duration.Duration) => ({
  id: CommandId.make(id),
  command: "node",
  args: ["-e", script, ...args],
  cwd: project,
  env: {},
  timeout
})

/** Whether a port answers an HTTP request, whatever the status. */
const isAnswering = (provider: SandboxProvider["Service"], name: SandboxName, port: Port) =>
  Effect.scoped(
    Effect.gen(function* () {
      const { host, incoming, send } = yield* provider.connect(name, port)
      yield* send(encode(`HEAD / HTTP/1.1\r\nhost: ${host}\r\naccept: text/html\r\nconnection: close\r\n\r\n`))
      const begin = yield* Stream.runHead(incoming)
      return Option.exists(begin, (bytes) => decode(bytes).startsWith("HTTP/1."))
    })
  ).pipe(
    Effect.timeoutOption(probeTimeout),
    Effect.map(Option.exists((answered) => answered)),
    Effect.catchTag("PortClosed", () => Effect.succeed(false))
  )

/** `CommandNotFound` cannot happen to a command that was just started. */
const orDie = <A>(asked: Effect.Effect<A, Failed>) => Effect.catchTag(asked, "CommandNotFound", Effect.die)

type Failed = CommandNotFound | SandboxGone | SandboxUnavailable

type Printed = Stream.Stream<Output, Failed>

const isLine = Schema.decodeUnknownOption(Line)

/** Parses a listing line by line from the output stream; none if the output is malformed or too long. */
const listingFrom = Effect.fnUntraced(function* (printed: Printed, withContents: boolean) {
  const files: Array<string> = []
  const texts: Array<readonly [string, string]> = []
  const skipped: Array<Listing["skipped"][number]> = []
  let next: string | null = null
  let [rest, length, lines] = ["", 0, 0]
  const take = (text: string) => {
    const all = (rest + text).split("\n")
    rest = all.pop()!
    length += text.length
    lines += all.length
    if (length > maxListingLength || lines > mostLines) return false
    for (const one of all) {
      const line = one.length > longestLine ? Option.none() : isLine(one)
      if (Option.isNone(line)) return false
      const { value } = line
      if ("skipped" in value) skipped.push(value.skipped)
      else if ("next" in value) next = value.next
      else {
        files.push(value.file)
        if (value.text !== undefined) texts.push([value.file, value.text])
      }
    }
    return rest.length <= longestLine
  }
  let isListing = true
  yield* Stream.runForEachWhile(toText(printed), ({ text }) => Effect.as(Effect.yieldNow, (isListing = take(text))))
  if (!isListing || rest !== "") return Option.none()
  return Option.some<Listing>({
    files,
    skipped,
    next,
    ...(withContents && { contents: Object.fromEntries(texts) })
  })
})

/** The names that fit into one program argument, in order. */
const fitting = (files: ReadonlyArray<string>): ReadonlyArray<string> => {
  let bytes = 0
  return files.filter((file) => (bytes += encode(JSON.stringify(file)).length + 1) < maxNamesBytes)
}

const noSpace = () => new GuestScriptFailed({ reason: "The sandbox has no space left for the files" })

const reasonOf = (end: CommandEnd | null): string => {
  switch (end?.by) {
    case "timedOut":
      return "It took too long"
    case "killed":
      return "A program in the sandbox killed it"
    case "lost":
      return "The sandbox stopped while it ran"
    case "unstarted":
      return `A program could not be started in the sandbox (${end.failure ?? "command_not_started"})`
    default:
      return "A program in the sandbox failed or gave an invalid answer"
  }
}
