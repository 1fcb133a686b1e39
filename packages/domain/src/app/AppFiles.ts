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

/** The files of a project could not be told. */
export class FilesNotListed extends Schema.TaggedError<FilesNotListed>()("FilesNotListed", { cause: InternalCause }) {}

/** Packages were not installed; `reason` is what the package manager said, or why it was not asked. */
export class PackagesNotInstalled extends Schema.TaggedError<PackagesNotInstalled>()("PackagesNotInstalled", {
  reason: Schema.String,
  cause: InternalCause
}) {}

/** A package is not in the registry, or not in the version asked for; `reason` is what the package manager said. */
export class PackageNotFound extends Schema.TaggedError<PackageNotFound>()("PackageNotFound", {
  package: Schema.String,
  reason: Schema.String
}) {}

/** Packages that are there, by name, with their versions. */
export type InstalledPackages = Readonly<Record<string, string>>

/** What is to become of a project. */
export interface ProjectChange {
  readonly files: ReadonlyArray<ProjectFile>
  readonly packages: ReadonlyArray<PackageName>
}

type Failure = AppNotFound | GuestScriptFailed | SandboxGone | SandboxNotRunning | SandboxUnavailable

/** How long the page of an app that was changed is waited for, before and after its dev server is started anew. */
const pageWithin = { before: Duration.seconds(8), after: Duration.seconds(12) }

/** What is in an app's sandbox: its files, its packages, and whether they work. What is changed is changed one by one. */
export class AppFiles extends Context.Service<
  AppFiles,
  {
    /** A page of the files of the project, and what they hold if that is wanted. Wakes none. */
    readonly files: (app: AppSandbox, options: ListingOptions) => Effect.Effect<Listing, FilesNotListed>
    /** Looks for what is wrong. An app that can't be looked at is wrong, too. Wakes none. */
    readonly diagnose: (app: AppSandbox) => Effect.Effect<Diagnosis>
    /**
     * Installs packages, and completes once the page answers again, or clearly does not. Wakes the app if it sleeps. What
     * was begun goes on if nobody waits.
     */
    readonly install: (
      app: AppSandbox,
      packages: ReadonlyArray<PackageName>
    ) => Effect.Effect<InstalledPackages, PackageNotFound | PackagesNotInstalled>
    /**
     * Writes files, then installs packages, and tells of each; the last event is `Complete`. If a file is refused, nothing
     * is done. What the dev server can't compile afterwards is a problem, too. It goes on if nobody reads. Wakes the app if it sleeps.
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

        /** Does something in the app's sandbox; wakes it first if it sleeps. */
        const awake = <A>(app: AppSandbox, work: Effect.Effect<A, Failure>): Effect.Effect<A, Failure> =>
          Effect.andThen(apps.used(app), work).pipe(
            Effect.catchTag("SandboxNotRunning", () => Effect.andThen(apps.wake(app), work))
          )

        const files = Effect.fn("AppFiles.files")(function* (app: AppSandbox, options: ListingOptions) {
          yield* apps.used(app)
          return yield* guest.list(app.name, options).pipe(Effect.mapError((cause) => new FilesNotListed({ cause })))
        })

        const looked = Effect.fn("AppFiles.diagnose")(function* (app: AppSandbox) {
          const begun = yield* monotonicMillis
          const answered = Effect.map(monotonicMillis, (now) => Math.round(now - begun))
          yield* apps.used(app)
          return yield* apps.isAlive(app).pipe(
            Effect.flatMap((alive) => (alive ? answered : Effect.fail("The sandbox does not run"))),
            Effect.flatMap((answeredMs) =>
              Effect.map(guest.diagnose(app.name, app.port), (findings) => diagnosisOf(findings, answeredMs))
            ),
            Effect.catch((failure) =>
              Effect.map(answered, (askedMs) =>
                unreachableDiagnosis(typeof failure === "string" ? failure : reasonOf(failure), askedMs)
              )
            )
          )
        })

        const installed = (app: AppSandbox, packages: ReadonlyArray<PackageName>) =>
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

        /** Whether the page answers again; a dev server that hangs, or that nobody keeps any more, gets a successor. */
        const answers = Effect.fnUntraced(function* ({ name, port }: AppSandbox) {
          const before = yield* guest.awaitAnswer(name, port, pageWithin.before)
          if (Option.isSome(before)) return true
          const sandbox = yield* provider.find(name)
          if (Option.isNone(sandbox)) return false
          yield* guest.restart(sandbox.value, port)
          return Option.isSome(yield* guest.awaitAnswer(name, port, pageWithin.after))
        })

        const install = Effect.fn("AppFiles.install")(function* (
          app: AppSandbox,
          packages: ReadonlyArray<PackageName>
        ) {
          const versions = yield* installed(app, packages)
          yield* Effect.ignore(answers(app))
          return versions
        })

        const carryOut = Effect.fnUntraced(function* (
          app: AppSandbox,
          { files, packages }: ProjectChange,
          tell: (event: ApplyEvent) => Effect.Effect<unknown>
        ) {
          const done = { files: new Array<string>(), packages: new Array<string>(), errors: new Array<string>() }
          const complain = (message: string) => {
            done.errors.push(message)
            return tell(ApplyEvent.Problem({ message }))
          }

          const write = Effect.gen(function* () {
            yield* tell(ApplyEvent.Status({ message: `Writing ${counted(files.length, "file")}` }))
            const { applied, failed } = yield* awake(app, guest.apply(app.name, files))
            for (const path of applied) yield* tell(ApplyEvent.File({ path }))
            for (const { path, reason } of failed) yield* complain(`${path}: ${reason}`)
            done.files.push(...applied)
            return applied.length > 0 || files.length === 0
          })

          const bring = Effect.gen(function* () {
            yield* tell(ApplyEvent.Status({ message: `Installing ${counted(packages.length, "package")}` }))
            const versions = yield* installed(app, packages)
            for (const [name, version] of Object.entries(versions)) {
              done.packages.push(name)
              yield* tell(ApplyEvent.Package({ name, version }))
            }
          }).pipe(Effect.catch(({ reason }) => complain(`The packages were not installed: ${reason}`)))

          yield* Effect.gen(function* () {
            if (!(yield* write)) return
            if (packages.length > 0) yield* bring
            yield* tell(ApplyEvent.Status({ message: "Waiting for the page" }))
            if (!(yield* answers(app))) return yield* complain("The dev server does not answer")
            const { errors } = yield* guest.compile(app.name, app.port, done.files)
            for (const { file, message } of errors) yield* complain(`${file}: ${stripAnsi(message)}`)
          }).pipe(Effect.catch((failure) => complain(reasonOf(failure))))
          yield* tell(ApplyEvent.Complete(done))
        })

        const apply = (app: AppSandbox, change: ProjectChange) =>
          Stream.unwrap(
            Effect.gen(function* () {
              const events = yield* Queue.unbounded<ApplyEvent, Cause.Done>()
              const work = carryOut(app, change, (event) => Queue.offer(events, event)).pipe(
                Effect.tapCause((cause) => Effect.logError("a change of a project broke off", cause)),
                // Who reads must not take an end that came of itself for the last event.
                Effect.onExit((exit) =>
                  Exit.isSuccess(exit) ? Queue.end(events) : Queue.failCause(events, exit.cause)
                ),
                Effect.ignoreCause
              )
              yield* FiberSet.run(working, work)
              return Stream.fromQueue(events)
            })
          )

        return AppFiles.of({ files, diagnose: looked, install, apply })
      })
    )
}

const counted = (count: number, what: string): string => `${count} ${what}${count === 1 ? "" : "s"}`

/** Why nothing could be done in a sandbox, in words for its owner. */
const reasonOf = (failure: Failure): string => {
  switch (failure._tag) {
    case "AppNotFound":
    case "SandboxGone":
      return "The sandbox has ended"
    case "SandboxNotRunning":
      return "The sandbox does not run"
    case "SandboxUnavailable":
      return "The sandbox's provider could not be reached, or refused"
    case "GuestScriptFailed":
      return failure.reason
  }
}
