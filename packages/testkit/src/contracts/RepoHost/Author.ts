/** The authors and publishers in the contract of RepoHost: in memory, or with the real git. */
import type { CommitId, Repo } from "@castellan/domain/repo/Repo.ts"
import type { Effect, Scope } from "effect"

/** The content at a path. */
export type Content = string | Uint8Array | { readonly link: string } | { readonly submodule: CommitId }

/** An author with a local repository, who makes commits and exchanges them with the host as bundles. */
export interface Author {
  /** Makes a commit with exactly these files. */
  readonly commit: (
    files: Readonly<Record<string, Content>>,
    parents?: ReadonlyArray<CommitId>
  ) => Effect.Effect<CommitId>
  /** Bundles branches with all their commits except those in `have`. */
  readonly bundle: (
    branches: Readonly<Record<string, CommitId>>,
    have?: ReadonlyArray<CommitId>
  ) => Effect.Effect<Uint8Array>
  /** Imports the commits of a bundle and returns the heads of its branches; fails if a prerequisite commit is missing. */
  readonly unbundle: (bundle: Uint8Array) => Effect.Effect<Readonly<Record<string, CommitId>>, unknown>
  /** The files of a local commit as text. */
  readonly files: (commit: CommitId) => Effect.Effect<Readonly<Record<string, string>>>
}

/** Pushes the branches of a bundle to a public repository below the host's `publicUrl`. */
export type Publish<R = never> = (repo: Repo, bundle: Uint8Array) => Effect.Effect<void, unknown, R>

/** Makes an author with an empty local repository. */
export type NewAuthor = Effect.Effect<Author, never, Scope.Scope>
