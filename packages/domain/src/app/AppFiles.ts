import { Cause, Context, Duration, Effect, Exit, FiberSet, Layer, Option, Queue, Schema, Stream } from "effect"
import { monotonicMillis } from "../monotonicMillis.ts"
import {
  type SandboxGone,
  type SandboxNotRunning,
  SandboxProvider,
  type SandboxUnavailable
} from "../sandbox/SandboxProvider.ts"
import { InternalCause } from "../InternalCause.ts"
import { ApplyEvent } from "./project/ApplyEvent.ts"
import type { AppSandbox } from "./AppSandbox.ts"
import { type AppNotFound, AppSandboxes } from "./AppSandboxes.ts"
import type { AppTimes } from "./AppTimes.ts"
import { diagnosisOf, type Diagnosis, unreachableDiagnosis } from "./project/Diagnostics.ts"
import { GuestScripts, type GuestScriptFailed, type ProjectFile } from "./guest/GuestScripts.ts"
import type { Listing, ListingOptions } from "./guest/listFiles.ts"
import { formatNpmOutput, packageNotInRegistry } from "./project/npmOutput.ts"
import type { PackageName } from "./project/PackageName.ts"
import { stripAnsi } from "./project/stripAnsi.ts"

/** The files of a project could not be listed. */
export class FilesNotListed extends Schema.TaggedError<FilesNotListed>()("FilesNotListed", { cause: InternalCause }) {}

/** Packages could not be installed. `reason` is the package manager's message, or why it did not run. */
export class PackagesNotInstalled extends Schema.TaggedError<PackagesNotInstalled>()("PackagesNotInstalled", {
  reason: Schema.String,
  cause: InternalCause
}) {}

/** The registry does not have a package, or not in the requested version. `reason` is the package manager's message. */
export class PackageNotFound extends Schema.TaggedError<PackageNotFound>()("PackageNotFound", {
  package: Schema.String,
  reason: Schema.String
}) {}

/** Versions of installed packages by name. */
export type InstalledPackages = Readonly<Record<string, string>>

/** Files to write and packages to install. */
export interface ProjectChange {
  readonly files: ReadonlyArray<ProjectFile>
  readonly packages: ReadonlyArray<PackageName>
}

type Failure = AppNotFound | GuestScriptFailed | SandboxGone | SandboxNotRunning | SandboxUnavailable

/** How long to wait for the page after a change, before and after a restart of the dev server. */
const pageTimeout = { before: Duration.seconds(8), after: Duration.seconds(12) }

/** Lists and changes the files and packages of an app, and diagnoses it. Changes to one app run one at a time. */
export class AppFiles extends Context.Service<
  AppFiles,
  {
    /** A page of the project's files, with their contents if requested. Does not wake the app. */
    readonly files: (app: AppSandbox, options: ListingOptions) => Effect.Effect<Listing, FilesNotListed>
    /** Checks the app for problems. A sandbox that cannot be reached is a problem, too. Does not wake the app. */
    readonly diagnose: (app: AppSandbox) => Effect.Effect<Diagnosis>
    /**
     * Installs packages and completes once the page answers, or the wait for it times out. Wakes the app if it is
     * hibernated. An interruption does not stop an install that has started.
     */
    readonly install: (
      app: AppSandbox,
      packages: ReadonlyArray<PackageName>
    ) => Effect.Effect<InstalledPackages, PackageNotFound | PackagesNotInstalled>
    /**
     * Writes files, then installs packages, and emits an event for each; the last event is `Complete`. If a file is
     * rejected, nothing is changed. Compile errors afterwards are `Problem` events. The change continues if the stream is
     * no longer read. Wakes the app if it is hibernated.
     */
    readonly apply: (app: AppSandbox, change: ProjectChange) => Stream.Stream<ApplyEvent>
  }
>()("domain/app/AppFiles") {
  static readonly layer = (times: AppTimes) =>
    Layer.effect(
      AppFiles,
      Effect.gen(function* () {
        const apps = yield* AppSandboxes
        const guest = yield* GuestScripts
        const provider = yield* SandboxProvider
        const working = yield* FiberSet.make<void>()

        /** Runs `work` in the app's sandbox; wakes the sandbox and runs it again if it is hibernated. */
        const awake = <A>(app: AppSandbox, work: Effect.Effect<A, Failure>): Effect.Effect<A, Failure> =>
          Effect.andThen(apps.recordActivity(app), work).pipe(
            Effect.catchTag("SandboxNotRunning", () => Effect.andThen(apps.resume(app), work))
          )

        const files = Effect.fn("AppFiles.files")(function* (app: AppSandbox, options: ListingOptions) {
          yield* apps.recordActivity(app)
          return yield* guest.list(app.name, options).pipe(Effect.mapError((cause) => new FilesNotListed({ cause })))
        })

        const diagnose = Effect.fn("AppFiles.diagnose")(function* (app: AppSandbox) {
          const startedAt = yield* monotonicMillis
          const elapsed = Effect.map(monotonicMillis, (now) => Math.round(now - startedAt))
          yield* apps.recordActivity(app)
          return yield* apps.isAlive(app).pipe(
            Effect.flatMap((alive) => (alive ? elapsed : Effect.fail("The sandbox is not running"))),
            Effect.flatMap((answeredMs) =>
              Effect.map(guest.diagnose(app.name, app.port), (findings) => diagnosisOf(findings, answeredMs))
            ),
            Effect.catch((failure) =>
              Effect.map(elapsed, (askedMs) =>
                unreachableDiagnosis(typeof failure === "string" ? failure : reasonOf(failure), askedMs)
              )
            )
          )
        })

        const installPackages = (app: AppSandbox, packages: ReadonlyArray<PackageName>) =>
          awake(app, guest.install(app.name, packages, times.installWithin)).pipe(
            Effect.mapError((cause) => new PackagesNotInstalled({ reason: reasonOf(cause), cause })),
            Effect.flatMap(
              ({ failure, installed }): Effect.Effect<InstalledPackages, PackageNotFound | PackagesNotInstalled> => {
                if (failure === null) return Effect.succeed(installed)
                const reason = formatNpmOutput(failure)
                const missing = packageNotInRegistry(failure, packages)
                return missing === undefined
                  ? Effect.fail(new PackagesNotInstalled({ reason }))
                  : Effect.fail(new PackageNotFound({ package: missing, reason }))
              }
            )
          )

        /** Waits until the page answers; restarts a dev server that hangs or has lost its supervisor. */
        const awaitPage = Effect.fnUntraced(function* ({ name, port }: AppSandbox) {
          const before = yield* guest.awaitAnswer(name, port, pageTimeout.before)
          if (Option.isSome(before)) return true
          const sandbox = yield* provider.find(name)
          if (Option.isNone(sandbox)) return false
          yield* guest.restart(sandbox.value, port)
          return Option.isSome(yield* guest.awaitAnswer(name, port, pageTimeout.after))
        })

        const install = Effect.fn("AppFiles.install")(function* (
          app: AppSandbox,
          packages: ReadonlyArray<PackageName>
        ) {
          const versions = yield* installPackages(app, packages)
          yield* Effect.ignore(awaitPage(app))
          return versions
        })

        const applyChange = applyChangeWith(guest, { awake, installPackages, awaitPage })

        const apply = (app: AppSandbox, change: ProjectChange) =>
          Stream.unwrap(
            Effect.gen(function* () {
              const events = yield* Queue.unbounded<ApplyEvent, Cause.Done>()
              const work = applyChange(app, change, (event) => Queue.offer(events, event)).pipe(
                Effect.tapCause((cause) => Effect.logError("Failed to apply change to project", cause)),
                // A failure must fail the stream: a plain end would look like a complete one.
                Effect.onExit((exit) =>
                  Exit.isSuccess(exit) ? Queue.end(events) : Queue.failCause(events, exit.cause)
                ),
                Effect.ignoreCause
              )
              yield* FiberSet.run(working, work)
              return Stream.fromQueue(events)
            })
          )

        return AppFiles.of({ files, diagnose, install, apply })
      })
    )
}

interface Steps {
  readonly awake: <A>(app: AppSandbox, work: Effect.Effect<A, Failure>) => Effect.Effect<A, Failure>
  readonly installPackages: (
    app: AppSandbox,
    packages: ReadonlyArray<PackageName>
  ) => Effect.Effect<InstalledPackages, PackageNotFound | PackagesNotInstalled>
  readonly awaitPage: (app: AppSandbox) => Effect.Effect<boolean, Failure>
}

/** Applies a change and emits its events. Never fails: every failure becomes a `Problem` event. */
const applyChangeWith = (guest: GuestScripts["Service"], { awaitPage, awake, installPackages }: Steps) =>
  Effect.fnUntraced(function* (
    app: AppSandbox,
    { files, packages }: ProjectChange,
    emit: (event: ApplyEvent) => Effect.Effect<unknown>
  ) {
    const done = { files: new Array<string>(), packages: new Array<string>(), errors: new Array<string>() }
    const reportProblem = (message: string) => {
      done.errors.push(message)
      return emit(ApplyEvent.Problem({ message }))
    }

    const writeFiles = Effect.gen(function* () {
      yield* emit(ApplyEvent.Status({ message: `Writing ${quantity(files.length, "file")}` }))
      const { applied, failed } = yield* awake(app, guest.apply(app.name, files))
      for (const path of applied) yield* emit(ApplyEvent.File({ path }))
      for (const { path, reason } of failed) yield* reportProblem(`${path}: ${reason}`)
      done.files.push(...applied)
      return applied.length > 0 || files.length === 0
    })

    const install = Effect.gen(function* () {
      yield* emit(ApplyEvent.Status({ message: `Installing ${quantity(packages.length, "package")}` }))
      const versions = yield* installPackages(app, packages)
      for (const [name, version] of Object.entries(versions)) {
        done.packages.push(name)
        yield* emit(ApplyEvent.Package({ name, version }))
      }
    }).pipe(Effect.catch(({ reason }) => reportProblem(`The packages were not installed: ${reason}`)))

    yield* Effect.gen(function* () {
      if (!(yield* writeFiles)) return
      if (packages.length > 0) yield* install
      yield* emit(ApplyEvent.Status({ message: "Waiting for the page" }))
      if (!(yield* awaitPage(app))) return yield* reportProblem("The dev server does not answer")
      const { errors } = yield* guest.compile(app.name, app.port, done.files)
      for (const { file, message } of errors) yield* reportProblem(`${file}: ${stripAnsi(message)}`)
    }).pipe(Effect.catch((failure) => reportProblem(reasonOf(failure))))
    yield* emit(ApplyEvent.Complete(done))
  })

const quantity = (count: number, what: string): string => `${count} ${what}${count === 1 ? "" : "s"}`

/** The failure as a sentence for the app's owner. */
const reasonOf = (failure: Failure): string => {
  switch (failure._tag) {
    case "AppNotFound":
    case "SandboxGone":
      return "The sandbox has ended"
    case "SandboxNotRunning":
      return "The sandbox is not running"
    case "SandboxUnavailable":
      return "The sandbox's provider could not be reached or rejected the request"
    case "GuestScriptFailed":
      return failure.reason
  }
}
