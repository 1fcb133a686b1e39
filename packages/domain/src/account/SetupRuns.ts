/** Executes `setup-sandbox` runs, which make the repository and the snapshot of an account's environment. */
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
const snapshotLifetime = Duration.days(7)

/** Maximum attempts at a setup. */
export const attempts = 8

/** Delays between attempts: 1, 2, 4 … seconds, up to a minute. */
export const setupRetry: RetryPolicy = { initial: Duration.seconds(1), longest: Duration.minutes(1) }

/** The author of commits that the server makes. */
const author = { name: "Castellan", email: "castellan@noreply.invalid" }

/** The run is no longer the account's setup: another one was started, or the account was cleared. */
class Superseded extends Schema.TaggedError<Superseded>()("Superseded", {}) {}

/** An unexpected error of the server; another attempt may succeed. */
class UnexpectedFailure extends Schema.TaggedError<UnexpectedFailure>()("UnexpectedFailure", {
  cause: InternalCause
}) {}

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
    case "UnexpectedFailure":
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
    case "UnexpectedFailure":
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

/** The name of the run's sandbox comes from the run's id, so that each attempt finds the sandbox of the one before. */
const nonceOf = (run: TaskRun) => run.id.slice("run_".length)

const sandboxOf = (run: TaskRun) => SandboxName.make(`sbx_${nonceOf(run)}`)

/** The ports and settings of the functions below. */
interface Services {
  readonly identities: IdentityStore["Service"]
  readonly sandboxes: AccountSandboxes["Service"]
  readonly operations: SandboxOperations["Service"]
  readonly environments: EnvironmentStore["Service"]
  readonly snapshots: Snapshots["Service"]
  readonly provider: SandboxProvider["Service"]
  readonly checkouts: Checkouts["Service"]
  readonly host: RepoHost["Service"]
  readonly trees: FileTrees["Service"]
  readonly runs: TaskRuns["Service"]
  /** How long a resumed sandbox runs before its provider stops it. */
  readonly lifetime: Duration.Duration
}

/** The worker of `setup-sandbox`. Every step is idempotent, so after a crash the next attempt starts with the first. */
export const layer = (options: { readonly concurrency: number; readonly lifetime: Duration.Duration }) =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      const services: Services = {
        identities: yield* IdentityStore,
        sandboxes: yield* AccountSandboxes,
        operations: yield* SandboxOperations,
        environments: yield* EnvironmentStore,
        snapshots: yield* Snapshots,
        provider: yield* SandboxProvider,
        checkouts: yield* Checkouts,
        host: yield* RepoHost,
        trees: yield* FileTrees,
        runs: yield* TaskRuns,
        lifetime: options.lifetime
      }
      const runner = yield* TaskRunner
      yield* runner.process("setup-sandbox", options, (run) => work(services, run))
    })
  )

const boot = Effect.fnUntraced(function* (
  { lifetime, provider, sandboxes }: Services,
  run: TaskRun,
  scope: AccountScope
) {
  const { sandbox } = yield* sandboxes.create(scope, { work: Option.none(), nonce: Option.some(nonceOf(run)) })
  if (sandbox.status !== "running") yield* provider.resume(sandbox.name, lifetime)
  return sandbox.name
})

/** The repository of the environment if the account may use it, otherwise the one to make for the account. */
const chooseRepo = Effect.fnUntraced(function* ({ environments, host, identities }: Services, scope: AccountScope) {
  const known = Option.flatMap(yield* environments.get(scope), (one) => usable(host.supports, one))
  if (Option.isSome(known)) return known.value
  const account = yield* identities.findAccount(scope.account)
  return repoFor(
    host.supports,
    Option.getOrElse(account, () => ({ id: scope.account, name: null }))
  )
})

const orSuperseded = <A>(saved: Option.Option<A>) => (Option.isSome(saved) ? Effect.void : new Superseded())

const ensureRepo = Effect.fnUntraced(function* (services: Services, run: TaskRun, scope: AccountScope) {
  const { environments, host } = services
  const repo = yield* chooseRepo(services, scope)
  const repository = yield* host.ensure(repo)
  const url = RepoUrl.urlOf(host.supports.url, repository.repo)
  const granted = !isOwn(host.supports, scope.account, repo)
  yield* orSuperseded(yield* environments.saveSetup(scope, run.id, { repo: { url, granted } }))
  return { repo, url, branch: repository.defaultBranch }
})

const setUp = Effect.fnUntraced(function* (services: Services, first: TaskRun) {
  const { checkouts, environments, runs, snapshots, trees } = services
  const scope = AccountScope.ofOwner(first)
  let run = first
  const step = Effect.fnUntraced(function* (currentStep: string) {
    const next = yield* runs.advance(run, "EXECUTING", { currentStep, log: currentStep })
    run = Option.isSome(next) ? next.value : yield* new Superseded()
  })
  yield* step("Starting the sandbox")
  const sandbox = yield* boot(services, run, scope)
  yield* step("Finding or creating the repository")
  const { branch, repo, url } = yield* ensureRepo(services, run, scope)
  yield* step("Merging and pushing the workspace")
  const title = repo.name
  yield* checkouts.sync(sandbox, repo, { branch, author, title, message: "Update the workspace" })
  yield* trees.forget(repo)
  yield* step("Taking a snapshot")
  const key = SnapshotKey.make(`snp_${nonceOf(run)}`)
  const snapshot = yield* snapshots.take(scope, sandbox, { key, purpose: "setup", keptFor: snapshotLifetime })
  yield* step("Saving the snapshot")
  yield* orSuperseded(yield* environments.saveSetup(scope, run.id, { snapshot }))
  yield* step("Stopping the sandbox")
  yield* stop(services, run)
  const output = Schema.encodeSync(SetupOutput)({ githubRepo: url, snapshotId: snapshot.id })
  yield* runs.advance(run, "COMPLETED", { output, currentStep: null, log: "Done" })
})

/** Stops the run's sandbox; `find` records that it is stopped. */
const stop = Effect.fnUntraced(function* ({ provider, sandboxes }: Services, run: TaskRun) {
  yield* provider.stop(sandboxOf(run))
  yield* sandboxes.find(AccountScope.ofOwner(run), sandboxOf(run))
})

const failOrRetryLater = Effect.fnUntraced(function* (services: Services, run: TaskRun, failure: Failure) {
  const { runs } = services
  yield* Effect.logWarning("Failed to run setup", { run: run.id, attempt: run.attempt }, failure)
  const minimum = minimumRetryDelay(failure)
  if (Option.isSome(minimum) && run.attempt < attempts) {
    const after = Duration.max(retryDelay(setupRetry, run.attempt), Duration.millis(minimum.value))
    yield* runs.advance(run, "REATTEMPTING", { log: `${reasonOf(failure)}; trying again` })
    return yield* new RetryLater({ after })
  }
  yield* Effect.ignore(stop(services, run))
  yield* runs.advance(run, "FAILED", {
    error: { code: "setup_failed", message: reasonOf(failure) },
    log: reasonOf(failure)
  })
})

/**
 * Cancels a superseded run and stops its sandbox. Where the environment was deleted, a step of this run may have made
 * the sandbox and the repository after the deletion, so both are removed.
 */
const cancelSuperseded = Effect.fnUntraced(function* (services: Services, run: TaskRun) {
  const { environments, host, identities, operations, runs } = services
  const scope = AccountScope.ofOwner(run)
  yield* Effect.ignore(stop(services, run))
  if (Option.isNone(yield* environments.get(scope))) {
    yield* Effect.ignore(operations.remove(scope, sandboxOf(run)))
    const account = yield* identities.findAccount(scope.account)
    if (Option.isSome(account)) yield* Effect.ignore(host.remove(repoFor(host.supports, account.value)))
  }
  yield* runs.advance(run, "CANCELED", { log: "Canceled" })
})

const work = Effect.fn("SetupRuns.work")(function* (services: Services, queued: TaskRun) {
  const executing = yield* services.runs.advance(queued, "EXECUTING")
  if (Option.isNone(executing)) return yield* Effect.ignore(stop(services, queued))
  const run = executing.value
  yield* setUp(services, run).pipe(
    Effect.catchDefect((cause) => new UnexpectedFailure({ cause })),
    Effect.catchTag("Superseded", () => cancelSuperseded(services, run)),
    Effect.catch((failure) => failOrRetryLater(services, run, failure))
  )
})
