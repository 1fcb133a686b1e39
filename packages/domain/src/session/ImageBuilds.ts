/** Builds the base images of repositories in the background. */
import { Clock, Context, DateTime, Duration, Effect, Layer, Option, Schema } from "effect"
import { AccountScope } from "../identity/AccountScope.ts"
import { Checkouts, reasonFor } from "../repo/Checkouts.ts"
import { StoredReadAs } from "../repo/ReadAs.ts"
import { retryDelay } from "../lifecycle/RetryPolicy.ts"
import { Repo } from "../repo/Repo.ts"
import { buildRetry, ImageKey, wantsBuild } from "../sandbox/BaseImage.ts"
import { BaseImages, type ImageNotBuilt } from "../sandbox/BaseImages.ts"
import { providerReason } from "../sandbox/providerReason.ts"
import type { SandboxUnavailable } from "../sandbox/SandboxProvider.ts"
import { SnapshotId } from "../sandbox/Snapshot.ts"
import type { TaskRun } from "../task/TaskRun.ts"
import { TaskRunner, RetryLater } from "../task/TaskRunner.ts"
import { TaskRuns } from "../task/TaskRuns.ts"
import { AccountId } from "../identity/Account.ts"
import type { Session } from "./Session.ts"
import { hasWorkspace, imageKeyOf, SessionSandboxes } from "./SessionSandboxes.ts"

/** The input of a `build-org-snapshot` run. */
const BuildInput = Schema.Struct({
  key: ImageKey,
  /** The account or organization whose sandboxes boot from it. */
  account: AccountId,
  repo: Repo,
  readAs: StoredReadAs,
  url: Schema.String
}).pipe(Schema.encodeKeys({ readAs: "right" }))

/** The output of a `build-org-snapshot` run; null if another build completed first. */
const BuildOutput = Schema.Struct({ snapshotId: Schema.NullOr(SnapshotId) })

/** Attempts of one run before it fails. */
const attempts = 5

/** How long after it queued a build this process may queue the same build again. */
const requestAgainAfter = Duration.minutes(1)

export class ImageBuilds extends Context.Service<
  ImageBuilds,
  {
    /** Queues a build of the base image of the session's repository, if it is missing or old. */
    readonly requestFor: (session: Session) => Effect.Effect<void>
  }
>()("domain/session/ImageBuilds") {
  static readonly layer = Layer.effect(
    ImageBuilds,
    Effect.gen(function* () {
      const images = yield* BaseImages
      const sandboxes = yield* SessionSandboxes
      const runs = yield* TaskRuns

      /** When this process last requested a build, in milliseconds. */
      const requestedAt = new Map<ImageKey, number>()

      /** Many sessions may open before the first build starts: only the first of them queues it. */
      const isFirstRequest = (key: ImageKey) =>
        Effect.map(Clock.currentTimeMillis, (now) => {
          for (const [requested, at] of requestedAt) {
            if (at + Duration.toMillis(requestAgainAfter) <= now) requestedAt.delete(requested)
          }
          if (requestedAt.has(key)) return false
          requestedAt.set(key, now)
          return true
        })

      const requestFor = Effect.fn("ImageBuilds.requestFor")(function* (session: Session) {
        const repo = yield* sandboxes.repoOf(session)
        if (session.ephemeral || Option.isNone(repo)) return
        const key = imageKeyOf(session, repo.value)
        if (!wantsBuild(yield* images.find(key), yield* DateTime.now)) return
        if (!(yield* isFirstRequest(key))) return
        const input = Schema.encodeSync(BuildInput)({
          key,
          account: session.organization ?? session.account,
          repo: repo.value.repo,
          readAs: repo.value.readAs,
          url: repo.value.url
        })
        yield* runs.start(AccountScope.ofOwner(session), { task: "build-org-snapshot", input })
      })

      return ImageBuilds.of({ requestFor })
    })
  )
}

/** Executes `build-org-snapshot` runs. */
export const worker = (options: { readonly concurrency: number }) =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      const images = yield* BaseImages
      const checkouts = yield* Checkouts
      const runs = yield* TaskRuns
      const runner = yield* TaskRunner

      const failOrRetryLater = Effect.fnUntraced(function* (run: TaskRun, failure: ImageNotBuilt | SandboxUnavailable) {
        yield* Effect.logWarning("Failed to build base image", { run: run.id, attempt: run.attempt }, failure)
        const error = failure._tag === "ImageNotBuilt" ? failure.reason : providerReason(failure).sentence
        if (run.attempt < attempts) {
          yield* runs.advance(run, "REATTEMPTING", { log: `${error}; trying again` })
          return yield* new RetryLater({
            after: Duration.sum(retryDelay(buildRetry, run.attempt), Duration.seconds(1))
          })
        }
        yield* runs.advance(run, "FAILED", { error: { code: "image_failed", message: error } })
      })

      const build = Effect.fnUntraced(function* (run: TaskRun) {
        const { account, key, repo, readAs, url } = Schema.decodeUnknownSync(BuildInput)(run.input)
        const building = images.build({
          key,
          account,
          prepare: (builder) => Effect.asVoid(checkouts.clone(builder, repo, { branch: null, readAs, url })),
          explain: (failure) => reasonFor(failure).sentence
        })
        // A server without `~/workspace` queued this run; it could not use an image of this server.
        const snapshot = hasWorkspace(key) ? yield* building : Option.none<SnapshotId>()
        const output = Schema.encodeSync(BuildOutput)({ snapshotId: Option.getOrNull(snapshot) })
        yield* runs.advance(run, "COMPLETED", { output })
      })

      const work = Effect.fn("ImageBuilds.work")(function* (queued: TaskRun) {
        const executing = yield* runs.advance(queued, "EXECUTING")
        if (Option.isNone(executing)) return
        const run = executing.value
        yield* Effect.catch(build(run), (failure) => failOrRetryLater(run, failure))
      })

      yield* runner.process("build-org-snapshot", options, work)
    })
  )
