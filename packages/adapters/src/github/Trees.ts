/** Reads the tree of a branch: in one request, or directory by directory where GitHub truncates the response. */
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

const TreeResponse = Schema.Struct({
  sha: Schema.String,
  truncated: Schema.Boolean,
  tree: Schema.Array(Schema.Unknown)
})

interface Listing {
  readonly sha: string
  readonly truncated: boolean
  readonly tree: ReadonlyArray<typeof Entry.Type>
}

const toEntry = Schema.decodeUnknownSync(Entry)

/** Entries that are decoded before the event loop gets a turn. */
const decodeBatch = 1000

const readListing = async (response: ApiResponse): Promise<Listing> => {
  const { tree, ...more } = await json(TreeResponse)(response)
  const entries: Array<typeof Entry.Type> = []
  for (const one of tree) {
    entries.push(toEntry(one))
    if (entries.length % decodeBatch === 0) await setImmediate()
  }
  return { ...more, tree: entries }
}

/** Concurrent requests for one truncated tree. */
const concurrency = 4

/** The revision of a repository without commits. */
const empty = "empty"

/**
 * A revision is the tree's id and the ETag of GitHub's response. The ETag saves the transfer of an unchanged tree. The id
 * identifies the tree where GitHub gives it another ETag, as it does after a change of credentials.
 */
const revisionOf = (sha: string, etag: unknown) => (typeof etag === "string" ? `${sha} ${etag}` : sha)

const parse = (revision: string | null) => {
  const [, sha, etag] = /^([0-9a-f]{40,64})(?: ((?:W\/)?"[\x21\x23-\x7e]*"))?$/.exec(revision ?? "") ?? []
  return { sha, etag }
}

const entryOf = (prefix: string, { path, sha, size, type }: Listing["tree"][number]) =>
  new TreeEntry({
    path: prefix + path,
    type: type === "blob" ? "blob" : "tree",
    sha,
    ...(type === "blob" && size !== undefined ? { size } : {})
  })

export const make = (send: SendRequest, limits: TreeLimits, maxRequests: number) => {
  const list = (repo: Repo, sha: string, recursive: boolean, etag?: string) =>
    send(
      "GET /repos/{owner}/{repo}/git/trees/{tree_sha}",
      {
        owner: repo.owner,
        repo: repo.name,
        tree_sha: sha,
        ...(recursive ? { recursive: "1" } : {}),
        headers: etag === undefined ? {} : { "if-none-match": etag }
      },
      async (response) => ({ ...(await readListing(response)), etag: response.headers["etag"] })
    )

  /**
   * Lists the root, then each directory in it recursively, or again level by level where GitHub truncates that too. Stops at
   * the limits of requests and entries. GitHub can't list the rest of a single truncated directory, so it is left out.
   */
  const walkLevels = Effect.fnUntraced(function* (repo: Repo, root: string) {
    const permits = Semaphore.makeUnsafe(concurrency)
    let requestsLeft = maxRequests
    let entriesLeft = limits.entries
    let isCut = false

    const listWithinLimits = (sha: string, recursive: boolean): Effect.Effect<Listing | undefined, RequestFailed> =>
      permits.withPermits(1)(
        Effect.suspend(() => {
          if (requestsLeft > 0 && entriesLeft > 0) {
            requestsLeft--
            return Effect.tap(list(repo, sha, recursive), (listing) =>
              Effect.sync(() => {
                if (!recursive || !listing.truncated) entriesLeft -= listing.tree.length
              })
            )
          }
          isCut = true
          return Effect.undefined
        })
      )

    const level = (sha: string, prefix: string): Effect.Effect<ReadonlyArray<TreeEntry>, RequestFailed> =>
      Effect.gen(function* () {
        const listing = yield* listWithinLimits(sha, false)
        if (listing === undefined) return []
        if (listing.truncated) isCut = true
        const below = yield* Effect.forEach(
          listing.tree,
          (one) =>
            Effect.gen(function* () {
              if (one.type !== "tree") return [entryOf(prefix, one)]
              const whole = yield* listWithinLimits(one.sha, true)
              const childPrefix = `${prefix}${one.path}/`
              const entries =
                whole?.truncated === true
                  ? yield* level(one.sha, childPrefix)
                  : (whole?.tree ?? []).map((child) => entryOf(childPrefix, child))
              return [entryOf(prefix, one), ...entries]
            }),
          { concurrency }
        )
        return below.flat()
      })

    return { entries: yield* level(root, ""), isCut }
  })

  const toTree = (revision: string, entries: ReadonlyArray<TreeEntry>, isCut: boolean): FileTree => {
    const gathering = gatherTree(limits)
    if (isCut) gathering.leaveOut()
    for (const entry of entries) if (!gathering.add(entry)) break
    return gathering.tree(revision)
  }

  /** The whole of a truncated tree. A part that is missing means that the repository was deleted meanwhile. */
  const walk = (repo: Repo, sha: string) =>
    Effect.mapError(walkLevels(repo, sha), (failure) =>
      failure.isAbsent
        ? new RequestFailed({ ...failure, status: null, retryable: true, cause: failure.cause })
        : failure
    )

  /** The tree of the default branch or of a commit; none if it still has the revision `known`. */
  return (
    repo: Repo,
    known: string | null,
    ref: CommitId | "HEAD" = "HEAD"
  ): Effect.Effect<Option.Option<FileTree>, RequestFailed> => {
    const previous = parse(known)
    return Effect.matchEffect(list(repo, ref, true, previous.etag), {
      onFailure: (failure) => {
        if (failure.status === 304) return Effect.succeed(Option.none())
        // 409: the repository has no commits.
        return failure.status === 409 ? Effect.succeed(emptyTreeIfChanged(known)) : Effect.fail(failure)
      },
      onSuccess: (listing) => {
        if (listing.sha === previous.sha) return Effect.succeed(Option.none())
        const revision = revisionOf(listing.sha, listing.etag)
        const all = listing.truncated
          ? walk(repo, listing.sha)
          : Effect.succeed({ entries: listing.tree.map((one) => entryOf("", one)), isCut: false })
        return Effect.map(all, ({ entries, isCut }) => Option.some(toTree(revision, entries, isCut)))
      }
    })
  }
}

/** The tree of a repository without commits; none if that is the revision `known`. */
export const emptyTreeIfChanged = (known: string | null): Option.Option<FileTree> =>
  known === empty ? Option.none() : Option.some(emptyTree(empty))
