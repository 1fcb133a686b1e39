/** Who commits and publishes in the contract of RepoHost: in memory, or with the real git. */
import type { CommitId, Repo } from "@castellan/domain/repo/Repo.ts"
import type { Effect, Scope } from "effect"

/** What a path leads to. */
export type Content = string | Uint8Array | { readonly link: string } | { readonly submodule: CommitId }

/** Somebody with a repository of their own, who makes commits and exchanges them as the host's bundles. */
export interface Author {
  /** A commit with these files and no others. */
  readonly commit: (
    files: Readonly<Record<string, Content>>,
    parents?: ReadonlyArray<CommitId>
  ) => Effect.Effect<CommitId>
  /** Branches with all their commits, but those of `have`. */
  readonly bundle: (
    branches: Readonly<Record<string, CommitId>>,
    have?: ReadonlyArray<CommitId>
  ) => Effect.Effect<Uint8Array>
  /** Takes the commits of a bundle in, and tells where its branches stand; fails if it builds on what is not there. */
  readonly take: (bundle: Uint8Array) => Effect.Effect<Readonly<Record<string, CommitId>>, unknown>
  /** The files of a commit that is there, as text. */
  readonly files: (commit: CommitId) => Effect.Effect<Readonly<Record<string, string>>>
}

/** Puts the branches of a bundle into a repository below the host's `publicUrl`, for anyone to read. */
export type Publish<R = never> = (repo: Repo, bundle: Uint8Array) => Effect.Effect<void, unknown, R>

/** An author without any commits. */
export type NewAuthor = Effect.Effect<Author, never, Scope.Scope>
