/** Synchronizes the files of a sandbox with a branch of a repository. */
import { Context, Duration, Effect, Layer, Option, Schema, Stream } from "effect"
import { type FailureReason, permanent, transient } from "../FailureReason.ts"
import { Sandboxes } from "../sandbox/Sandboxes.ts"
import type { Command, CommandEnd } from "../sandbox/Command.ts"
import { providerReason } from "../sandbox/providerReason.ts"
import type { SandboxName } from "../sandbox/SandboxName.ts"
import type { SandboxGone, SandboxNotRunning, SandboxUnavailable } from "../sandbox/SandboxProvider.ts"
import {
  printedCommits,
  type Author,
  type CheckoutOptions,
  incomingBundle,
  outgoingBundle,
  refusalCode,
  printedCommit,
  checkoutCommands
} from "./Checkout.ts"
import { type BranchName, type CommitId, firstBranch, type Repo } from "./Repo.ts"
import type { ReadAs } from "./ReadAs.ts"
import { RepoHost, RepoNotFound, type RepoRejected, type RepoUnavailable } from "./RepoHost.ts"

/** Git failed in the sandbox. `reason` is for the sandbox's owner. */
export class CheckoutFailed extends Schema.TaggedError<CheckoutFailed>()("CheckoutFailed", {
  reason: Schema.String,
  /** Present if the cause is known and not git itself. */
  code: Schema.optionalKey(Schema.Literals(["branch_not_found", "sandbox_stopped"]))
}) {}

export type SyncFailure =
  CheckoutFailed | RepoNotFound | RepoRejected | RepoUnavailable | SandboxGone | SandboxNotRunning | SandboxUnavailable

/** The reason for a failed read of a repository, for its owner. */
export const repoReason = (failure: RepoNotFound | RepoRejected | RepoUnavailable): FailureReason => {
  switch (failure._tag) {
    case "RepoNotFound":
      return permanent("repository_not_found", "The repository does not exist, or may not be read")
    case "RepoRejected":
      return failure.why === "too_large"
        ? permanent("repository_too_large", "The branch is larger than this server fetches")
        : permanent("repository_unsafe", `The branch has an object that is refused for safety: ${failure.fault}`)
    case "RepoUnavailable":
      return failure.retryable
        ? transient("repository_host_unavailable", "The repository host could not be reached", failure.retryAfterMs)
        : permanent("repository_host_refused", "The repository host refused the server's request")
  }
}

/** The reason for a failed synchronization, for the sandbox's owner. */
export const reasonFor = (failure: SyncFailure): FailureReason => {
  switch (failure._tag) {
    case "CheckoutFailed":
      return failure.code === "sandbox_stopped"
        ? transient("sandbox_stopped", failure.reason)
        : permanent(failure.code ?? "checkout_failed", failure.reason)
    case "RepoNotFound":
    case "RepoRejected":
    case "RepoUnavailable":
      return repoReason(failure)
    case "SandboxGone":
    case "SandboxNotRunning":
      return transient("sandbox_stopped", "The sandbox stopped during the operation")
    case "SandboxUnavailable":
      return providerReason(failure)
  }
}

export interface CloneOptions {
  readonly branch: BranchName | null
  readonly readAs: ReadAs
  readonly url: string
  /** Configured as git's user. Absent for base images, which several accounts may use. */
  readonly author?: Author
}

/** Timeout of one script. */
const scriptTimeout = Duration.minutes(10)

/** Attempts to push, if others push between the merge and the push. */
const maxPushes = 10

/** Maximum bytes of a bundle that leaves a sandbox. */
const maxBundleBytes = 1024 * 1024 * 1024

/**
 * Commits are transferred as bundles, which the server fetches and pushes: the sandbox needs no network access and never
 * sees a credential.
 */
export class Checkouts extends Context.Service<
  Checkouts,
  {
    /**
     * Commits the sandbox's workspace, merges the commits that others have pushed, and pushes. Never overwrites commits,
     * and commits nothing outside of the workspace. Returns the commit that both sides have afterwards. Can be repeated
     * after it was interrupted at any point.
     */
    readonly sync: (sandbox: SandboxName, repo: Repo, options: CheckoutOptions) => Effect.Effect<CommitId, SyncFailure>
    /**
     * Checks out the head of a branch, or of the default branch if it is null, in the workspace of a new sandbox, with
     * `url` as its origin. If the sandbox's image has older commits of the repository, only newer ones are transferred, and
     * changes of tracked files are overwritten. Untracked files stay; if one conflicts with a file of the repository, it
     * fails with a sentence. An empty repository gives a branch without a commit. `author` becomes git's user unless one is
     * configured. Can be repeated after it was interrupted at any point.
     */
    readonly clone: (
      sandbox: SandboxName,
      repo: Repo,
      options: CloneOptions
    ) => Effect.Effect<{ readonly branch: BranchName; readonly commit: CommitId | null }, SyncFailure>
    /**
     * Moves the working tree of a session's sandbox from its home directory, where earlier versions had it, into a
     * workspace: the repository, and the files that may belong to it. Does nothing if there is a workspace already. Can be
     * repeated after it was interrupted at any point.
     */
    readonly relocate: (sandbox: SandboxName) => Effect.Effect<void, SyncFailure>
  }
>()("domain/repo/Checkouts") {
  static readonly layer = Layer.effect(
    Checkouts,
    Effect.gen(function* () {
      const sandboxes = yield* Sandboxes
      const host = yield* RepoHost

      const run = Effect.fnUntraced(function* (sandbox: SandboxName, command: Command) {
        const { end, stderr, stdout } = yield* sandboxes.run(sandbox, command, scriptTimeout)
        if (end.by === "exited" && end.exitCode === 0) return stdout
        return yield* failureOf(end, stderr)
      })

      /** Writes the commits of a branch that the sandbox lacks into it, as a bundle. None if there is no such branch. */
      const fetchInto = Effect.fnUntraced(function* (
        sandbox: SandboxName,
        repo: Repo,
        branch: BranchName | null,
        known: ReadonlyArray<CommitId>,
        readAs: ReadAs
      ) {
        const fetched = yield* host.fetch(repo, branch, known, readAs)
        if (Option.isSome(fetched) && Option.isSome(fetched.value.bundle)) {
          yield* sandboxes.writeFile(sandbox, incomingBundle, fetched.value.bundle.value)
        }
        return fetched
      }, Effect.scoped)

      /** Pushes the bundle that the merge made. False if others pushed in between. */
      const push = (sandbox: SandboxName, repo: Repo, branch: BranchName) =>
        host.push(repo, branch, limited(sandboxes.readFile(sandbox, outgoingBundle))).pipe(
          Effect.as(true),
          Effect.catchTag("PushRejected", () => Effect.succeed(false))
        )

      const sync = Effect.fn("Checkouts.sync")(
        function* (sandbox: SandboxName, repo: Repo, options: CheckoutOptions) {
          const { branch } = options
          let known = printedCommit(yield* run(sandbox, checkoutCommands.commitAll(options)), "known")
          for (let pushes = 0; pushes < maxPushes; pushes++) {
            const fetched = yield* fetchInto(sandbox, repo, branch, known === null ? [] : [known], "service")
            const theirs: CommitId | null = Option.isSome(fetched) ? fetched.value.commit : null
            const merged = yield* run(sandbox, checkoutCommands.merge(options, theirs))
            const same = printedCommit(merged, "same")
            if (same !== null) return same
            const ahead = printedCommit(merged, "ahead")
            if (ahead === null) return yield* failed("Git did not print the commit that it made")
            if (yield* push(sandbox, repo, branch)) {
              yield* run(sandbox, checkoutCommands.confirmPush(options, ahead))
              return ahead
            }
            known = theirs
          }
          return yield* failed("Others kept pushing to the repository")
        },
        Effect.catchTags({
          BundleRefused: () => failed("The repository host refused the sandbox's commits"),
          CommandNotFound: lostCommand,
          FileNotFound: () => failed("The sandbox's commits could not be read"),
          FileRefused: () => failed("The sandbox's commits could not be read")
        })
      )

      const defaultBranch = Effect.fnUntraced(function* (repo: Repo) {
        const found = yield* host.find(repo)
        return Option.isSome(found) ? found.value.defaultBranch : yield* new RepoNotFound({ repo })
      })

      const clone = Effect.fn("Checkouts.clone")(
        function* (sandbox: SandboxName, repo: Repo, { author, branch, readAs, url }: CloneOptions) {
          const known = printedCommits(yield* run(sandbox, checkoutCommands.listKnown(branch)), "known")
          const fetched = yield* fetchInto(sandbox, repo, branch, known, readAs)
          if (Option.isSome(fetched)) {
            const { branch, commit } = fetched.value
            yield* run(sandbox, checkoutCommands.clone(branch, commit, url, author))
            return { branch, commit }
          }
          // Any branch can be the first one of an empty repository. Another repository lacks the branch.
          if (branch !== null && Option.isSome(yield* Effect.scoped(host.fetch(repo, null, known, readAs)))) {
            return yield* new CheckoutFailed({ reason: "The repository has no such branch", code: "branch_not_found" })
          }
          const first = branch ?? (readAs === "service" ? yield* defaultBranch(repo) : firstBranch)
          yield* run(sandbox, checkoutCommands.clone(first, null, url, author))
          return { branch: first, commit: null }
        },
        Effect.catchTags({
          CommandNotFound: lostCommand,
          FileNotFound: () => failed("The repository's commits could not be written"),
          FileRefused: () => failed("The repository's commits could not be written")
        })
      )

      const relocate = Effect.fn("Checkouts.relocate")(
        function* (sandbox: SandboxName) {
          yield* run(sandbox, checkoutCommands.relocate())
        },
        Effect.catchTag("CommandNotFound", lostCommand)
      )

      return Checkouts.of({ sync, clone, relocate })
    })
  )
}

const failed = (reason: string) => new CheckoutFailed({ reason })

const lostCommand = () => failed("The sandbox lost the git command")

const failureOf = (end: CommandEnd, stderr: string) =>
  end.by === "lost"
    ? new CheckoutFailed({ reason: "The sandbox stopped while git ran in it", code: "sandbox_stopped" })
    : failed(reasonOf(end, stderr))

const reasonOf = (end: CommandEnd, stderr: string): string => {
  if (end.by === "unstarted") return `Git could not be started in the sandbox (${end.failure ?? "command_not_started"})`
  if (end.by !== "exited") return "Git took too long in the sandbox"
  if (end.exitCode === 127) return "The sandbox has no git"
  const last = stderr.trim().split("\n").at(-1)?.slice(0, 300) ?? ""
  if (end.exitCode === refusalCode) return last
  return last === "" ? `Git failed in the sandbox with code ${end.exitCode}` : `Git failed in the sandbox: ${last}`
}

/** Fails when the stream has more than `maxBundleBytes`. */
const limited = <E>(content: Stream.Stream<Uint8Array, E>) =>
  content.pipe(
    Stream.mapAccumEffect(
      () => 0,
      (sent, chunk) =>
        sent + chunk.length > maxBundleBytes
          ? Effect.fail(
              new CheckoutFailed({ reason: `The commits to push are larger than ${maxBundleBytes >> 30} GiB` })
            )
          : Effect.succeed([sent + chunk.length, [chunk]] as const)
    )
  )
