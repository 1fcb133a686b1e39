/** The tree of a default branch, in one request where GitHub can, and piece by piece where it truncates. */
import { emptyTree, type FileTree, gatherTree, TreeEntry, type TreeLimits } from "@castellan/domain/repo/FileTree.ts"
import type { CommitId, Repo } from "@castellan/domain/repo/Repo.ts"
import { Effect, Option, Schema, Semaphore } from "effect"
import { RequestFailed } from "./RequestFailed.ts"
import { type ApiResponse, type SendRequest, json } from "./Requests.ts"
import { setImmediate } from "node:timers/promises"

const Entry = Schema.Struct({
  path: Schema.String,
  type: Schema.Literals(["blob", "commit", "tree"]),
  sha: Schema.String,
  size: Schema.optionalKey(Schema.Int)
})

const Answered = Schema.Struct({
  sha: Schema.String,
  truncated: Schema.Boolean,
  tree: Schema.Array(Schema.Unknown)
})

interface Listed {
  readonly sha: string
  readonly truncated: boolean
  readonly tree: ReadonlyArray<typeof Entry.Type>
}

const toEntry = Schema.decodeUnknownSync(Entry)

/** Entries that are decoded before others get their turn. */
const decodedAtOnce = 1000

const listed = async (answer: ApiResponse): Promise<Listed> => {
  const { tree, ...more } = await json(Answered)(answer)
  const entries: Array<typeof Entry.Type> = []
  for (const one of tree) {
    entries.push(toEntry(one))
    if (entries.length % decodedAtOnce === 0) await setImmediate()
  }
  return { ...more, tree: entries }
}

/** Requests for parts of one truncated tree at a time. */
const atOnce = 4

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

export const make = (ask: SendRequest, limits: TreeLimits, requestsMade: number) => {
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
      async (answer) => ({ ...(await listed(answer)), tag: answer.headers["etag"] })
    )

  /**
   * One level, and below it each directory as a whole, or level by level where that is too much again. No more is asked for
   * once there are enough requests or entries, and what can't be asked for is left out: the rest of a single directory.
   */
  const walk = Effect.fnUntraced(function* (repo: Repo, root: string) {
    const permits = Semaphore.makeUnsafe(atOnce)
    let requests = requestsMade
    let room = limits.entries
    let isCut = false

    const part = (sha: string, recursive: boolean): Effect.Effect<Listed | undefined, RequestFailed> =>
      permits.withPermits(1)(
        Effect.suspend(() => {
          if (requests > 0 && room > 0) {
            requests--
            return Effect.tap(list(repo, sha, recursive), (answer) =>
              Effect.sync(() => {
                if (!recursive || !answer.truncated) room -= answer.tree.length
              })
            )
          }
          isCut = true
          return Effect.undefined
        })
      )

    const level = (sha: string, prefix: string): Effect.Effect<ReadonlyArray<TreeEntry>, RequestFailed> =>
      Effect.gen(function* () {
        const answer = yield* part(sha, false)
        if (answer === undefined) return []
        if (answer.truncated) isCut = true
        const below = yield* Effect.forEach(
          answer.tree,
          (one) =>
            Effect.gen(function* () {
              if (one.type !== "tree") return [entryOf(prefix, one)]
              const whole = yield* part(one.sha, true)
              const inside = `${prefix}${one.path}/`
              const entries =
                whole?.truncated === true
                  ? yield* level(one.sha, inside)
                  : (whole?.tree ?? []).map((child) => entryOf(inside, child))
              return [entryOf(prefix, one), ...entries]
            }),
          { concurrency: atOnce }
        )
        return below.flat()
      })

    return { entries: yield* level(root, ""), isCut }
  })

  const gathered = (revision: string, entries: ReadonlyArray<TreeEntry>, isCut: boolean): FileTree => {
    const gathering = gatherTree(limits)
    if (isCut) gathering.leaveOut()
    for (const entry of entries) if (!gathering.add(entry)) break
    return gathering.tree(revision)
  }

  /** Its parts are named by the answer before: that one is missing means that the repository just went. */
  const whole = (repo: Repo, sha: string) =>
    Effect.mapError(walk(repo, sha), (refusal) =>
      refusal.isAbsent
        ? new RequestFailed({ ...refusal, status: null, retryable: true, cause: refusal.cause })
        : refusal
    )

  /** The tree of the default branch, or of a commit; none if it is still of the revision `known`. */
  return (
    repo: Repo,
    known: string | null,
    ref: CommitId | "HEAD" = "HEAD"
  ): Effect.Effect<Option.Option<FileTree>, RequestFailed> => {
    const seen = parse(known)
    return Effect.matchEffect(list(repo, ref, true, seen.tag), {
      onFailure: (refusal) => {
        if (refusal.status === 304) return Effect.succeed(Option.none())
        // It has no commits.
        return refusal.status === 409 ? Effect.succeed(emptyTreeIfChanged(known)) : Effect.fail(refusal)
      },
      onSuccess: (answer) => {
        if (answer.sha === seen.sha) return Effect.succeed(Option.none())
        const revision = revisionOf(answer.sha, answer.tag)
        const all = answer.truncated
          ? whole(repo, answer.sha)
          : Effect.succeed({ entries: answer.tree.map((one) => entryOf("", one)), isCut: false })
        return Effect.map(all, ({ entries, isCut }) => Option.some(gathered(revision, entries, isCut)))
      }
    })
  }
}

/** The tree of a default branch that has no commit. */
export const emptyTreeIfChanged = (known: string | null): Option.Option<FileTree> =>
  known === empty ? Option.none() : Option.some(emptyTree(empty))
