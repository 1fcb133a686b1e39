/** The tree of a default branch, in one request where GitHub can, and piece by piece where it truncates. */
import { type FileTree, TreeEntry } from "@castellan/domain/repo/FileTree.ts"
import type { CommitId, Repo } from "@castellan/domain/repo/Repo.ts"
import { Effect, Option, Schema, Semaphore } from "effect"
import { Refusal } from "./Refusal.ts"
import { type Ask, json } from "./Requests.ts"

const Listed = Schema.Struct({
  sha: Schema.String,
  truncated: Schema.Boolean,
  tree: Schema.Array(
    Schema.Struct({
      path: Schema.String,
      type: Schema.Literals(["blob", "commit", "tree"]),
      sha: Schema.String,
      size: Schema.optionalKey(Schema.Int)
    })
  )
})
type Listed = typeof Listed.Type

/** Requests for parts of truncated trees that are on their way at a time. */
const atOnce = 8

/** The revision of a repository without commits. */
const empty = "empty"

/**
 * A revision is the tree's id and the tag that GitHub gave the answer: with the tag it says in a word that nothing
 * changed, and where it gives another tag to the same tree, as after a change of credentials, the id tells.
 */
const revisionOf = (sha: string, tag: unknown) => (typeof tag === "string" ? `${sha} ${tag}` : sha)

const parse = (revision: string | null) => {
  const [, sha, tag] = /^([0-9a-f]{40,64})(?: ((?:W\/)?"[\x21\x23-\x7e]*"))?$/.exec(revision ?? "") ?? []
  return { sha, tag }
}

const entryOf = (prefix: string, { path, sha, size, type }: Listed["tree"][number]) =>
  new TreeEntry({
    path: prefix + path,
    type: type === "blob" ? "blob" : "tree",
    sha,
    ...(type === "blob" && size !== undefined ? { size } : {})
  })

export const make = (ask: Ask) => {
  const permits = Semaphore.makeUnsafe(atOnce)

  const list = (repo: Repo, sha: string, recursive: boolean, tag?: string) =>
    ask(
      "GET /repos/{owner}/{repo}/git/trees/{tree_sha}",
      {
        owner: repo.owner,
        repo: repo.name,
        tree_sha: sha,
        ...(recursive ? { recursive: "1" } : {}),
        headers: tag === undefined ? {} : { "if-none-match": tag }
      },
      async (answer) => ({ ...(await json(Listed)(answer)), tag: answer.headers["etag"] })
    )

  /** One level, and below it each directory as a whole, or level by level where that is too much again. */
  const walk = (repo: Repo, sha: string, prefix: string): Effect.Effect<ReadonlyArray<TreeEntry>, Refusal> =>
    Effect.gen(function* () {
      const level = yield* permits.withPermits(1)(list(repo, sha, false))
      if (level.truncated) {
        // Nothing that can be asked gives the rest of a single directory.
        const cause = new Error(`The directory "${prefix}" has more entries than GitHub lists`)
        return yield* new Refusal({ status: null, codes: [], retryable: false, retryAfterMs: null, cause })
      }
      const below = yield* Effect.forEach(
        level.tree,
        (one) =>
          Effect.gen(function* () {
            if (one.type !== "tree") return [entryOf(prefix, one)]
            const whole = yield* permits.withPermits(1)(list(repo, one.sha, true))
            const inside = `${prefix}${one.path}/`
            const entries = whole.truncated
              ? yield* walk(repo, one.sha, inside)
              : whole.tree.map((child) => entryOf(inside, child))
            return [entryOf(prefix, one), ...entries]
          }),
        { concurrency: atOnce }
      )
      return below.flat()
    })

  /** Its parts are named by the answer before: that one is missing means that the repository just went. */
  const whole = (repo: Repo, sha: string) =>
    Effect.mapError(walk(repo, sha, ""), (refusal) =>
      refusal.isAbsent ? new Refusal({ ...refusal, status: null, retryable: true, cause: refusal.cause }) : refusal
    )

  /** The tree of the default branch, or of a commit; none if it is still of the revision `known`. */
  return (
    repo: Repo,
    known: string | null,
    ref: CommitId | "HEAD" = "HEAD"
  ): Effect.Effect<Option.Option<FileTree>, Refusal> => {
    const seen = parse(known)
    return Effect.matchEffect(list(repo, ref, true, seen.tag), {
      onFailure: (refusal) => {
        if (refusal.status === 304) return Effect.succeed(Option.none())
        // It has no commits.
        return refusal.status === 409 ? Effect.succeed(nothingOn(known)) : Effect.fail(refusal)
      },
      onSuccess: (answer) => {
        if (answer.sha === seen.sha) return Effect.succeed(Option.none())
        const revision = revisionOf(answer.sha, answer.tag)
        const entries = answer.truncated
          ? whole(repo, answer.sha)
          : Effect.succeed(answer.tree.map((one) => entryOf("", one)))
        return Effect.map(entries, (entries) => Option.some({ revision, entries }))
      }
    })
  }
}

/** The tree of a default branch that has no commit. */
export const nothingOn = (known: string | null): Option.Option<FileTree> =>
  known === empty ? Option.none() : Option.some({ revision: empty, entries: [] })
