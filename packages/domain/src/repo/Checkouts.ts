import { Context, Duration, Effect, Layer, Option, Schema, Stream } from "effect"
import { type FailureReason, permanent, transient } from "../FailureReason.ts"
import { Sandboxes } from "../sandbox/Sandboxes.ts"
import type { Command, CommandEnd } from "../sandbox/Command.ts"
import { providerReason } from "../sandbox/providerReason.ts"
import type { SandboxName } from "../sandbox/SandboxName.ts"
import type { SandboxGone, SandboxNotRunning, SandboxUnavailable } from "../sandbox/SandboxProvider.ts"
import { allSaid, type Author, type CheckoutOptions, incoming, outgoing, refusal, said, stages } from "./Checkout.ts"
import { type BranchName, type CommitId, firstBranch, type Repo } from "./Repo.ts"
import type { ReadAs } from "./ReadAs.ts"
import { RepoHost, RepoNotFound, type RepoRejected, type RepoUnavailable } from "./RepoHost.ts"

/** Git could not do it in the sandbox; `reason` is for the sandbox's owner. */
export class CheckoutFailed extends Schema.TaggedError<CheckoutFailed>()("CheckoutFailed", {
  reason: Schema.String,
  /** Why it was, where it was not git that failed. */
  code: Schema.optionalKey(Schema.Literals(["branch_not_found", "sandbox_stopped"]))
}) {}

/** Why a sandbox's files and a repository could not be brought together. */
export type SyncFailure =
  CheckoutFailed | RepoNotFound | RepoRejected | RepoUnavailable | SandboxGone | SandboxNotRunning | SandboxUnavailable

/** What the owner of a repository is told of a read that the repository's host prevented. */
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

/** Why it was, for the sandbox's owner. */
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
      return transient("sandbox_stopped", "The sandbox stopped while it was worked in")
    case "SandboxUnavailable":
      return providerReason(failure)
  }
}

export interface CloneOptions {
  readonly branch: BranchName | null
  readonly readAs: ReadAs
  readonly url: string
  /** None for what others are to begin with. */
  readonly author?: Author
}

/** How long one of git's stages may take in a sandbox. */
const stageTimeout = Duration.minutes(10)

/** How often others may push between our merge and our push before we give up. */
const tries = 10

/** Bytes of commits that leave a sandbox at once. */
const bundleSent = 1024 * 1024 * 1024

/**
 * Brings the files of a sandbox and a branch of a repository together. Commits cross as bundles, which the server
 * fetches and pushes: the sandbox needs no network for it, and never sees a credential.
 */
export class Checkouts extends Context.Service<
  Checkouts,
  {
    /**
     * Commits what is in the sandbox's workspace, merges what others have pushed, and pushes; nobody's commits are
     * overwritten. Nothing else of the home directory is committed. Gives the commit that both have then. May be
     * repeated, also after it was cut off anywhere.
     */
    readonly sync: (sandbox: SandboxName, repo: Repo, options: CheckoutOptions) => Effect.Effect<CommitId, SyncFailure>
    /**
     * Brings a branch of a repository, the default one if none is named, into a fresh sandbox's workspace, at its
     * head, with `url` as its origin. Where the sandbox was made from an image with older commits of the repository,
     * only the newer ones are sent, and what was changed of its files gives way; files that are not the repository's
     * stay, and where they stand in the way it fails with a sentence. An empty repository gives the branch without a
     * commit. Where nobody has said yet who commits there, it is `author` from then on, if one is given. May be
     * repeated, also after it was cut off anywhere.
     */
    readonly clone: (
      sandbox: SandboxName,
      repo: Repo,
      options: CloneOptions
    ) => Effect.Effect<{ readonly branch: BranchName; readonly commit: CommitId | null }, SyncFailure>
    /**
     * Makes the workspace of a session's sandbox whose home directory was the working tree, as servers had it before:
     * the repository and the files that can be its own move there. Changes nothing where there is a workspace already.
     * May be repeated, also after it was cut off anywhere.
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
        const { end, stderr, stdout } = yield* sandboxes.run(sandbox, command, stageTimeout)
        if (end.by === "exited" && end.exitCode === 0) return stdout
        return yield* failureOf(end, stderr)
      })

      const pull = Effect.fnUntraced(function* (
        sandbox: SandboxName,
        repo: Repo,
        options: CheckoutOptions,
        known: CommitId | null
      ) {
        const fetched = yield* host.fetch(repo, options.branch, known === null ? [] : [known], "service")
        if (Option.isNone(fetched)) return null
        const { bundle, commit } = fetched.value
        if (Option.isSome(bundle)) yield* sandboxes.writeFile(sandbox, incoming, bundle.value)
        return commit
      }, Effect.scoped)

      const sync = Effect.fn("Checkouts.sync")(
        function* (sandbox: SandboxName, repo: Repo, options: CheckoutOptions) {
          let known = said(yield* run(sandbox, stages.record(options)), "known")
          for (let again = 1; ; again++) {
            const theirs: CommitId | null = yield* pull(sandbox, repo, options, known)
            const merged = yield* run(sandbox, stages.merge(options, theirs))
            const same = said(merged, "same")
            if (same !== null) return same
            const ahead = said(merged, "ahead")
            if (ahead === null) return yield* new CheckoutFailed({ reason: "Git did not say which commit it made" })
            const pushed = yield* host.push(repo, options.branch, limited(sandboxes.readFile(sandbox, outgoing))).pipe(
              Effect.as(true),
              Effect.catchTag("PushRejected", () => Effect.succeed(false))
            )
            if (pushed) {
              yield* run(sandbox, stages.settle(options, ahead))
              return ahead
            }
            if (again === tries) return yield* new CheckoutFailed({ reason: "Others kept pushing to the repository" })
            known = theirs
          }
        },
        Effect.catchTags({
          BundleRefused: () => new CheckoutFailed({ reason: "The repository host refused the sandbox's commits" }),
          CommandNotFound: lostCommand,
          FileNotFound: () => new CheckoutFailed({ reason: "The sandbox's commits could not be read" }),
          FileRefused: () => new CheckoutFailed({ reason: "The sandbox's commits could not be read" })
        })
      )

      const defaultBranch = Effect.fnUntraced(function* (repo: Repo) {
        const found = yield* host.find(repo)
        return Option.isSome(found) ? found.value.defaultBranch : yield* new RepoNotFound({ repo })
      })

      const clone = Effect.fn("Checkouts.clone")(
        function* (sandbox: SandboxName, repo: Repo, { author, branch, readAs, url }: CloneOptions) {
          const known = allSaid(yield* run(sandbox, stages.look(branch)), "known")
          const fetched = yield* host.fetch(repo, branch, known, readAs)
          if (Option.isNone(fetched)) {
            // An empty repository has every branch, in a way; any other has none that it does not name.
            if (branch !== null && Option.isSome(yield* host.fetch(repo, null, known, readAs))) {
              return yield* new CheckoutFailed({
                reason: "The repository has no such branch",
                code: "branch_not_found"
              })
            }
            const first = branch ?? (readAs === "service" ? yield* defaultBranch(repo) : firstBranch)
            yield* run(sandbox, stages.clone(first, null, url, author))
            return { branch: first, commit: null }
          }
          const { bundle, commit } = fetched.value
          if (Option.isSome(bundle)) yield* sandboxes.writeFile(sandbox, incoming, bundle.value)
          yield* run(sandbox, stages.clone(fetched.value.branch, commit, url, author))
          return { branch: fetched.value.branch, commit }
        },
        Effect.scoped,
        Effect.catchTags({
          CommandNotFound: lostCommand,
          FileNotFound: () => new CheckoutFailed({ reason: "The repository's commits could not be written" }),
          FileRefused: () => new CheckoutFailed({ reason: "The repository's commits could not be written" })
        })
      )

      const relocate = Effect.fn("Checkouts.relocate")(
        function* (sandbox: SandboxName) {
          yield* run(sandbox, stages.relocate())
        },
        Effect.catchTag("CommandNotFound", lostCommand)
      )

      return Checkouts.of({ sync, clone, relocate })
    })
  )
}

const lostCommand = () => new CheckoutFailed({ reason: "The sandbox lost git's command" })

const failureOf = (end: CommandEnd, stderr: string) =>
  end.by === "lost"
    ? new CheckoutFailed({ reason: "The sandbox stopped while git worked in it", code: "sandbox_stopped" })
    : new CheckoutFailed({ reason: reasonOf(end, stderr) })

const reasonOf = (end: CommandEnd, stderr: string): string => {
  if (end.by === "unstarted") return `Git could not be started in the sandbox (${end.failure ?? "command_not_started"})`
  if (end.by !== "exited") return "Git took too long in the sandbox"
  if (end.exitCode === 127) return "The sandbox has no git"
  const last = stderr.trim().split("\n").at(-1)?.slice(0, 300) ?? ""
  if (end.exitCode === refusal) return last
  return last === "" ? `Git failed in the sandbox with code ${end.exitCode}` : `Git failed in the sandbox: ${last}`
}

/** The stream, as long as it is not too long. */
const limited = <E>(content: Stream.Stream<Uint8Array, E>) =>
  content.pipe(
    Stream.mapAccumEffect(
      () => 0,
      (sent, chunk) =>
        sent + chunk.length > bundleSent
          ? Effect.fail(new CheckoutFailed({ reason: `There is more than ${bundleSent >> 30} GiB to be pushed` }))
          : Effect.succeed([sent + chunk.length, [chunk]] as const)
    )
  )
