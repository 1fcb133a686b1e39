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

/** What a `build-org-snapshot` is given. */
const BuildInput = Schema.Struct({
  key: ImageKey,
  /** Whose sandboxes boot from it. */
  account: AccountId,
  repo: Repo,
  readAs: StoredReadAs,
  url: Schema.String
}).pipe(Schema.encodeKeys({ readAs: "right" }))

/** What a `build-org-snapshot` leaves behind; no snapshot where another had built one meanwhile. */
const BuildOutput = Schema.Struct({ snapshotId: Schema.NullOr(SnapshotId) })

/** Attempts of one run at an image that can't be built. */
const attempts = 5

/** How long after a build was asked for this process asks for it again. */
const askedAgainAfter = Duration.minutes(1)

/** Base images of repositories, built in the background when a session would have liked to boot from one. */
export class ImageBuilds extends Context.Service<
  ImageBuilds,
  {
    /** Sees to it that somebody builds the image of the session's repository, if it is missing or old. */
    readonly requestFor: (session: Session) => Effect.Effect<void>
  }
>()("domain/session/ImageBuilds") {
  static readonly layer = Layer.effect(
    ImageBuilds,
    Effect.gen(function* () {
      const images = yield* BaseImages
      const held = yield* SessionSandboxes
      const runs = yield* TaskRuns

      const asked = new Map<ImageKey, number>()

      /** Many sessions may open before the first build has begun: one of them asks for it. */
      const firstToAsk = (key: ImageKey) =>
        Effect.map(Clock.currentTimeMillis, (now) => {
          for (const [known, at] of asked) if (at + Duration.toMillis(askedAgainAfter) <= now) asked.delete(known)
          if (asked.has(key)) return false
          asked.set(key, now)
          return true
        })

      const requestFor = Effect.fn("ImageBuilds.requestFor")(function* (session: Session) {
        const repo = yield* held.repoOf(session)
        if (session.ephemeral || Option.isNone(repo)) return
        const key = imageKeyOf(session, repo.value)
        if (!wantsBuild(yield* images.find(key), yield* DateTime.now)) return
        if (!(yield* firstToAsk(key))) return
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

/** Works on `build-org-snapshot`. */
export const worker = (options: { readonly concurrency: number }) =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      const images = yield* BaseImages
      const checkouts = yield* Checkouts
      const runs = yield* TaskRuns
      const runner = yield* TaskRunner

      const failOrRetryLater = Effect.fnUntraced(function* (run: TaskRun, failure: ImageNotBuilt | SandboxUnavailable) {
        yield* Effect.logWarning("a base image was not built", failure)
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
        const wanted = images.build({
          key,
          account,
          prepare: (builder) => Effect.asVoid(checkouts.clone(builder, repo, { branch: null, readAs, url })),
          explain: (failure) => reasonFor(failure).sentence
        })
        // A server from before workspaces asked for the other kind, and could not use this one.
        const snapshot = hasWorkspace(key) ? yield* wanted : Option.none<SnapshotId>()
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
