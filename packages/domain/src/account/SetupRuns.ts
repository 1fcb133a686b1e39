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

/** How long the snapshot of a setup can be booted from. */
const snapshotKept = Duration.days(7)

/** Attempts at a setup that something outside stands in the way of. */
export const attempts = 8

/** The delays between attempts: 1, 2, 4 … seconds, a minute at most. */
export const setupRetry: RetryPolicy = { initial: Duration.seconds(1), longest: Duration.minutes(1) }

/** Who commits what nobody else has committed. */
const author = { name: "Castellan", email: "castellan@noreply.invalid" }

/** The account has another setup now, or none any more. */
class Superseded extends Schema.TaggedError<Superseded>()("Superseded", {}) {}

/** A fault of ours, or of what the server stands on: another attempt may meet it no more. */
class Broken extends Schema.TaggedError<Broken>()("Broken", { cause: InternalCause }) {}

type Failure = Broken | SandboxNotCreated | SandboxQuotaReached | SnapshotInProgress | SyncFailure

/** Whether another attempt may work out, and after how many milliseconds at the least. */
const hope = (failure: Failure): Option.Option<number> => {
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
    // Deleted since it was ensured: the next attempt makes it again.
    case "RepoNotFound":
      return Option.some(0)
    case "CheckoutFailed":
    case "RepoRejected":
    case "SandboxQuotaReached":
      return Option.none()
  }
}

/** Why a setup failed, in words for its owner. */
const reasonOf = (failure: Failure): string => {
  switch (failure._tag) {
    case "Broken":
      return "Something went wrong in the service"
    case "SandboxNotCreated":
      return failure.reason.sentence
    case "SandboxQuotaReached":
      return "The account has as many sandboxes as it may have"
    case "SnapshotInProgress":
      return "Another snapshot of the sandbox was being taken"
    default:
      return reasonFor(failure).sentence
  }
}

/** A setup's sandbox bears the run's name, so that a second attempt finds the first one's. */
const nonceOf = (run: TaskRun) => run.id.slice("run_".length)

/**
 * Works on `setup-sandbox`: a sandbox, a private repository, the two brought together, a snapshot, both ids saved, the
 * sandbox stopped. Each step may be repeated, so whoever takes over from a server that died begins at the first.
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

      /** The repository the account may use, or the one that is made for it. */
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

      const carryOut = Effect.fnUntraced(function* (first: TaskRun) {
        const scope = AccountScope.ofOwner(first)
        let run = first
        const step = Effect.fnUntraced(function* (currentStep: string) {
          const next = yield* runs.advance(run, "EXECUTING", { currentStep, log: currentStep })
          run = Option.isSome(next) ? next.value : yield* new Superseded()
        })
        yield* step("Starting the sandbox")
        const sandbox = yield* boot(run, scope)
        yield* step("Finding or making the repository")
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
        yield* Effect.logWarning("a setup did not work out", failure)
        const again = hope(failure)
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

      /** Whoever cleared the account may have been faster than the step under way: what that made is not left behind. */
      const callOff = Effect.fnUntraced(function* (run: TaskRun) {
        const scope = AccountScope.ofOwner(run)
        yield* Effect.ignore(stop(run))
        if (Option.isNone(yield* environments.get(scope))) {
          yield* Effect.ignore(operations.remove(scope, sandboxOf(run)))
          const account = yield* identities.findAccount(scope.account)
          if (Option.isSome(account)) yield* Effect.ignore(host.remove(repoFor(host.supports, account.value)))
        }
        yield* runs.advance(run, "CANCELED", { log: "Called off" })
      })

      const work = Effect.fn("SetupRuns.work")(function* (queued: TaskRun) {
        const executing = yield* runs.advance(queued, "EXECUTING")
        if (Option.isNone(executing)) return yield* Effect.ignore(stop(queued))
        const run = executing.value
        yield* carryOut(run).pipe(
          Effect.catchDefect((cause) => new Broken({ cause })),
          Effect.catchTag("Superseded", () => callOff(run)),
          Effect.catch((failure) => failOrRetryLater(run, failure))
        )
      })

      yield* runner.process("setup-sandbox", options, work)
    })
  )
