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

/** A program of ours did not do its work inside; `reason` is for the sandbox's owner. */
export class GuestScriptFailed extends Schema.TaggedError<GuestScriptFailed>()("GuestScriptFailed", {
  reason: Schema.String
}) {}

/** A file of a project as it is to be. */
export interface ProjectFile {
  readonly path: ProjectPath
  readonly content: string
}

type Idle = SandboxGone | SandboxNotRunning | SandboxUnavailable

/** How long looking and writing may take; installing has its own time. */
const usualTime = Duration.minutes(2)

/** How long somebody else may be at the project: an install, what it does afterwards, and a little. */
const longestHeld = Duration.minutes(5)

/** Characters of a listing that are read: the contents with every character escaped, and the names. */
const longestListing = 6 * limits.all + 4 * limits.names

/** How many answers of scripts are read at once: each may be of some size. */
const readAtOnce = 8

/** Bytes that are read of what a script that failed complained of. */
const complaint = 8 * 1024

/** Bytes of the names of files that a script is given; Linux takes 128 KiB in an argument. */
const longestNames = 100 * 1024

/** How long after its own deadline the package manager's end is waited for. */
const installGrace = Duration.seconds(30)

/** How long a dev server is kept; longer than any sandbox lives. */
const forGood = Duration.days(30)

/** How often a keeper of one run of a sandbox is started anew, should it end. */
const keepers = 100

/** How often it is looked whether a page answers, and how long one answer is waited for. */
const lookEvery = Duration.millis(50)
const answerWithin = Duration.seconds(10)

/** What is done inside the sandbox of an app. Whose it is, is for the caller to know. */
export class GuestScripts extends Context.Service<
  GuestScripts,
  {
    /** Makes sure that the dev server of this run of the sandbox is kept. May be repeated. */
    readonly serve: (sandbox: Sandbox, port: Port) => Effect.Effect<void, Idle>
    /** Makes sure that the dev server is kept, and that it is one that began just now: it may hang. */
    readonly restart: (sandbox: Sandbox, port: Port) => Effect.Effect<void, GuestScriptFailed | Idle>
    /** Completes once the page answers; none if it does not within that time. */
    readonly awaitAnswer: (
      name: SandboxName,
      port: Port,
      atMost: Duration.Duration
    ) => Effect.Effect<Option.Option<void>, Idle>
    /** A page of the files of the project. */
    readonly list: (name: SandboxName, options: ListingOptions) => Effect.Effect<Listing, GuestScriptFailed | Idle>
    /** Writes files, after whatever else is changed in the project just now. */
    readonly apply: (
      name: SandboxName,
      files: ReadonlyArray<ProjectFile>
    ) => Effect.Effect<AppliedFiles, GuestScriptFailed | Idle>
    /** Installs packages, or all that the project wants if none are named, after whatever else is changed just now. */
    readonly install: (
      name: SandboxName,
      packages: ReadonlyArray<PackageName>,
      atMost: Duration.Duration
    ) => Effect.Effect<InstallResult, GuestScriptFailed | Idle>
    /** What the dev server can't compile of the page, and of these files, which were written just now. */
    readonly compile: (
      name: SandboxName,
      port: Port,
      files: ReadonlyArray<string>
    ) => Effect.Effect<CompileResult, GuestScriptFailed | Idle>
    readonly diagnose: (name: SandboxName, port: Port) => Effect.Effect<Findings, GuestScriptFailed | Idle>
  }
>()("domain/app/GuestScripts") {
  static readonly layer = Layer.effect(
    GuestScripts,
    Effect.gen(function* () {
      const provider = yield* SandboxProvider
      const random = yield* SecureRandom
      const reading = yield* Semaphore.make(readAtOnce)
      const scope = yield* Effect.scope

      const spec = (id: string, script: Script, args: ReadonlyArray<string>, timeout: Duration.Duration) => ({
        id: CommandId.make(id),
        command: "node",
        args: ["-e", script, ...args],
        cwd: project,
        env: {},
        timeout
      })

      /** Runs a script to its end, and gives what it said. Interrupted, it goes on: what it changes is changed whole. */
      const runReading = Effect.fnUntraced(function* <A>(
        name: SandboxName,
        read: (output: Printed) => Effect.Effect<Option.Option<A>, Failed>,
        script: Script,
        args: ReadonlyArray<string>,
        timeout = usualTime
      ) {
        const { id, ...wanted } = spec(`app_${yield* newNonce(random)}`, script, args, timeout)
        yield* provider.start(name, { id, ...wanted })
        const { end } = yield* provider.wait(name, id).pipe(Effect.catchTag("CommandNotFound", Effect.die))
        const printed = provider.output(name, id, OutputPosition.only("stdout"))
        if (end?.by === "exited" && end.exitCode === 0) {
          const found = yield* orDie(reading.withPermit(read(printed)))
          if (Option.isSome(found)) {
            // Nobody asks for it again, and an app may be asked for its files every other second. Nobody waits for it.
            yield* Effect.forkIn(Effect.ignore(provider.forget(name, id)), scope, { startImmediately: true })
            return found.value
          }
        }
        const complaints = provider.output(name, id, OutputPosition.only("stderr"))
        yield* Effect.logWarning("a script inside an app's sandbox failed", {
          sandbox: name,
          end,
          said: (yield* orDie(readFirst(complaints, complaint))).text
        })
        return yield* new GuestScriptFailed({ reason: reasonOf(end) })
      })

      /** Runs a script whose answer is read as a whole. */
      const run = <A>(
        name: SandboxName,
        answer: Schema.Codec<A, unknown>,
        script: Script,
        args: ReadonlyArray<string>,
        timeout = usualTime
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
        // Each run of the sandbox begins without one; one that ended is followed by the next.
        const run = incarnation.replaceAll(/[^A-Za-z0-9]/g, "").slice(-32)
        for (let n = 0; n < keepers; n++) {
          const { end } = yield* provider.start(
            name,
            spec(`dev_${run}_${n}`, devServerSupervisor, [String(port)], forGood)
          )
          if (end === null) return
        }
      })

      const restart = Effect.fn("GuestScripts.restart")(function* (sandbox: Sandbox, port: Port) {
        yield* serve(sandbox, port)
        yield* run(sandbox.name, RestartResult, restartDevServer, [])
      })

      const answers = (name: SandboxName, port: Port) =>
        Effect.scoped(
          Effect.gen(function* () {
            const { host, incoming, send } = yield* provider.connect(name, port)
            yield* send(encode(`HEAD / HTTP/1.1\r\nhost: ${host}\r\naccept: text/html\r\nconnection: close\r\n\r\n`))
            const begin = yield* Stream.runHead(incoming)
            return Option.exists(begin, (bytes) => decode(bytes).startsWith("HTTP/1."))
          })
        ).pipe(
          Effect.timeoutOption(answerWithin),
          Effect.map(Option.exists((does) => does)),
          Effect.catchTag("PortClosed", () => Effect.succeed(false))
        )

      const awaitAnswer = Effect.fn("GuestScripts.awaitAnswer")(
        (name: SandboxName, port: Port, atMost: Duration.Duration) =>
          Effect.repeat(answers(name, port), { until: (does) => does, schedule: Schedule.spaced(lookEvery) }).pipe(
            Effect.timeoutOption(atMost),
            Effect.map(Option.asVoid)
          )
      )

      const apply = Effect.fn("GuestScripts.apply")(function* (name: SandboxName, files: ReadonlyArray<ProjectFile>) {
        const bundle = SandboxPath.make(`/tmp/castellan-${yield* newNonce(random)}.json`)
        yield* provider
          .writeFile(name, bundle, Stream.make(encode(JSON.stringify(files))))
          .pipe(Effect.catchTags({ FileNotFound: noRoom, FileRefused: noRoom }))
        return yield* run(name, AppliedFiles, applyFiles, [bundle], Duration.sum(usualTime, longestHeld))
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
          Duration.sum(Duration.sum(atMost, longestHeld), Duration.sum(usualTime, installGrace))
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

/** A command that was started just now is known. */
const orDie = <A>(asked: Effect.Effect<A, Failed>) => Effect.catchTag(asked, "CommandNotFound", Effect.die)

type Failed = CommandNotFound | SandboxGone | SandboxUnavailable

type Printed = Stream.Stream<Output, Failed>

const isLine = Schema.decodeUnknownOption(Line)

/** The listing that a script prints, read line by line as it comes; none where it is none, or too long. */
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
    if (length > longestListing || lines > mostLines) return false
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

/** The first of these names that fit into one argument of a program. */
const fitting = (files: ReadonlyArray<string>): ReadonlyArray<string> => {
  let bytes = 0
  return files.filter((file) => (bytes += encode(JSON.stringify(file)).length + 1) < longestNames)
}

const noRoom = () => new GuestScriptFailed({ reason: "There is no room for the files in the sandbox" })

const reasonOf = (end: CommandEnd | null): string => {
  switch (end?.by) {
    case "timedOut":
      return "It took too long"
    case "killed":
      return "It was ended from inside"
    case "lost":
      return "The sandbox stopped meanwhile"
    case "unstarted":
      return `A program could not be started in the sandbox (${end.failure ?? "command_not_started"})`
    default:
      return "Something in the sandbox stood in the way"
  }
}
