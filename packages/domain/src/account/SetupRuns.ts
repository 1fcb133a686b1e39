import { Duration, Effect, Layer, Option, Schema } from "effect"
import { AccountScope } from "../identity/AccountScope.ts"
import { IdentityStore } from "../identity/IdentityStore.ts"
import { type RetryPolicy, retryDelay } from "../lifecycle/RetryPolicy.ts"
import { Checkouts, reasonFor, type SyncFailure } from "../repo/Checkouts.ts"
import { FileTrees } from "../repo/FileTrees.ts"
import { RepoHost } from "../repo/RepoHost.ts"
import * as RepoUrl from "../repo/RepoUrl.ts"
import { SandboxName } from "../sandbox/SandboxName.ts"
import { SandboxProvider } from "../sandbox/SandboxProvider.ts"
import type { SandboxQuotaReached } from "../sandbox/SandboxQuota.ts"
import type { TaskRun } from "../task/TaskRun.ts"
import { TaskRunner, RetryLater } from "../task/TaskRunner.ts"
import { TaskRuns } from "../task/TaskRuns.ts"
import { InternalCause } from "../InternalCause.ts"
import { AccountSandboxes, type SandboxNotCreated } from "./AccountSandboxes.ts"
import { isOwn, repoFor, usable } from "./Environment.ts"
import { EnvironmentStore } from "./EnvironmentStore.ts"
import { SandboxOperations } from "./SandboxOperations.ts"
import { SnapshotKey } from "./SnapshotRecord.ts"
import { SetupOutput } from "./Setups.ts"
import { type SnapshotInProgress, Snapshots } from "./Snapshots.ts"

/** Lifetime of a setup's snapshot. */
const snapshotKept = Duration.days(7)

/** Maximum attempts at a setup. */
export const attempts = 8

/** Delays between attempts: 1, 2, 4 … seconds, up to a minute. */
export const setupRetry: RetryPolicy = { initial: Duration.seconds(1), longest: Duration.minutes(1) }

/** The author of commits that the server makes. */
const author = { name: "Castellan", email: "castellan@noreply.invalid" }

/** The run is no longer the account's setup: another one was started, or the account was cleared. */
class Superseded extends Schema.TaggedError<Superseded>()("Superseded", {}) {}

/** An unexpected error of the server; another attempt may succeed. */
class UnexpectedFailure extends Schema.TaggedError<UnexpectedFailure>()("Broken", { cause: InternalCause }) {}

type Failure = UnexpectedFailure | SandboxNotCreated | SandboxQuotaReached | SnapshotInProgress | SyncFailure

/** The minimum milliseconds before another attempt; none if it can't succeed. */
const minimumRetryDelay = (failure: Failure): Option.Option<number> => {
  switch (failure._tag) {
    case "RepoUnavailable":
      return failure.retryable ? Option.some(failure.retryAfterMs ?? 0) : Option.none()
    case "SandboxUnavailable":
      return failure.retryable ? Option.some(0) : Option.none()
    case "SandboxNotCreated":
      return Option.fromNullOr(failure.reason.retryAfterMs)
    case "Broken":
    case "SandboxNotRunning":
    case "SandboxGone":
    case "SnapshotInProgress":
    // The repository was deleted after it was ensured; the next attempt creates it again.
    case "RepoNotFound":
      return Option.some(0)
    case "CheckoutFailed":
    case "RepoRejected":
    case "SandboxQuotaReached":
      return Option.none()
  }
}

/** Why a setup failed, as a sentence for its owner. */
const reasonOf = (failure: Failure): string => {
  switch (failure._tag) {
    case "Broken":
      return "Something went wrong in the service"
    case "SandboxNotCreated":
      return failure.reason.sentence
    case "SandboxQuotaReached":
      return "The account has reached its sandbox limit"
    case "SnapshotInProgress":
      return "Another snapshot of the sandbox was being taken"
    default:
      return reasonFor(failure).sentence
  }
}

/** A setup's sandbox has the run's nonce in its name, so a second attempt finds the first one's sandbox. */
const nonceOf = (run: TaskRun) => run.id.slice("run_".length)

/**
 * The worker of `setup-sandbox`: creates a sandbox and a private repository, merges and pushes the files, takes a
 * snapshot, saves both ids, and stops the sandbox. Every step is idempotent, so after a crash the next attempt starts
 * from the first.
 */
export const layer = (options: { readonly concurrency: number; readonly lifetime: Duration.Duration }) =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      const identities = yield* IdentityStore
      const sandboxes = yield* AccountSandboxes
      const operations = yield* SandboxOperations
      const environments = yield* EnvironmentStore
      const snapshots = yield* Snapshots
      const provider = yield* SandboxProvider
      const checkouts = yield* Checkouts
      const host = yield* RepoHost
      const trees = yield* FileTrees
      const runs = yield* TaskRuns
      const runner = yield* TaskRunner

      const sandboxOf = (run: TaskRun) => SandboxName.make(`sbx_${nonceOf(run)}`)

      const boot = Effect.fnUntraced(function* (run: TaskRun, scope: AccountScope) {
        const { sandbox } = yield* sandboxes.create(scope, { work: Option.none(), nonce: Option.some(nonceOf(run)) })
        if (sandbox.status !== "running") yield* provider.resume(sandbox.name, options.lifetime)
        return sandbox.name
      })

      /** The repository that the account may use, or the one to create for it. */
      const chooseRepo = Effect.fnUntraced(function* (scope: AccountScope) {
        const known = Option.flatMap(yield* environments.get(scope), (one) => usable(host.supports, one))
        if (Option.isSome(known)) return known.value
        const account = yield* identities.findAccount(scope.account)
        return repoFor(
          host.supports,
          Option.getOrElse(account, () => ({ id: scope.account, name: null }))
        )
      })

      const superseded = <A>(saved: Option.Option<A>) => (Option.isSome(saved) ? Effect.void : new Superseded())

      const ensureRepo = Effect.fnUntraced(function* (run: TaskRun, scope: AccountScope) {
        const repo = yield* chooseRepo(scope)
        const repository = yield* host.ensure(repo)
        const url = RepoUrl.urlOf(host.supports.url, repository.repo)
        const granted = !isOwn(host.supports, scope.account, repo)
        yield* superseded(yield* environments.saveSetup(scope, run.id, { repo: { url, granted } }))
        return { repo, url, branch: repository.defaultBranch }
      })

      const execute = Effect.fnUntraced(function* (first: TaskRun) {
        const scope = AccountScope.ofOwner(first)
        let run = first
        const step = Effect.fnUntraced(function* (currentStep: string) {
          const next = yield* runs.advance(run, "EXECUTING", { currentStep, log: currentStep })
          run = Option.isSome(next) ? next.value : yield* new Superseded()
        })
        yield* step("Starting the sandbox")
        const sandbox = yield* boot(run, scope)
        yield* step("Finding or creating the repository")
        const { branch, repo, url } = yield* ensureRepo(run, scope)
        yield* step("Merging and pushing the workspace")
        const title = repo.name
        yield* checkouts.sync(sandbox, repo, { branch, author, title, message: "Update the workspace" })
        yield* trees.forget(repo)
        yield* step("Taking a snapshot")
        const key = SnapshotKey.make(`snp_${nonceOf(run)}`)
        const snapshot = yield* snapshots.take(scope, sandbox, { key, purpose: "setup", keptFor: snapshotKept })
        yield* step("Saving the snapshot")
        yield* superseded(yield* environments.saveSetup(scope, run.id, { snapshot }))
        yield* step("Stopping the sandbox")
        yield* stop(run)
        const output = Schema.encodeSync(SetupOutput)({ githubRepo: url, snapshotId: snapshot.id })
        yield* runs.advance(run, "COMPLETED", { output, currentStep: null, log: "Done" })
      })

      const stop = Effect.fnUntraced(function* (run: TaskRun) {
        const scope = AccountScope.ofOwner(run)
        yield* provider.stop(sandboxOf(run))
        yield* sandboxes.find(scope, sandboxOf(run))
      })

      const failOrRetryLater = Effect.fnUntraced(function* (run: TaskRun, failure: Failure) {
        yield* Effect.logWarning("Failed to run setup", failure)
        const again = minimumRetryDelay(failure)
        if (Option.isSome(again) && run.attempt < attempts) {
          const after = Duration.max(retryDelay(setupRetry, run.attempt), Duration.millis(again.value))
          yield* runs.advance(run, "REATTEMPTING", { log: `${reasonOf(failure)}; trying again` })
          return yield* new RetryLater({ after })
        }
        yield* Effect.ignore(stop(run))
        yield* runs.advance(run, "FAILED", {
          error: { code: "setup_failed", message: reasonOf(failure) },
          log: reasonOf(failure)
        })
      })

      /** Removes what the setup created after its account was cleared. */
      const cancelSuperseded = Effect.fnUntraced(function* (run: TaskRun) {
        const scope = AccountScope.ofOwner(run)
        yield* Effect.ignore(stop(run))
        if (Option.isNone(yield* environments.get(scope))) {
          yield* Effect.ignore(operations.remove(scope, sandboxOf(run)))
          const account = yield* identities.findAccount(scope.account)
          if (Option.isSome(account)) yield* Effect.ignore(host.remove(repoFor(host.supports, account.value)))
        }
        yield* runs.advance(run, "CANCELED", { log: "Canceled" })
      })

      const work = Effect.fn("SetupRuns.work")(function* (queued: TaskRun) {
        const executing = yield* runs.advance(queued, "EXECUTING")
        if (Option.isNone(executing)) return yield* Effect.ignore(stop(queued))
        const run = executing.value
        yield* execute(run).pipe(
          Effect.catchDefect((cause) => new UnexpectedFailure({ cause })),
          Effect.catchTag("Superseded", () => cancelSuperseded(run)),
          Effect.catch((failure) => failOrRetryLater(run, failure))
        )
      })

      yield* runner.process("setup-sandbox", options, work)
    })
  )
