import { emptyTree, TreeEntry } from "@castellan/domain/repo/FileTree.ts"
import { BranchName, type CommitId, Repo, RepoName, Repository } from "@castellan/domain/repo/Repo.ts"
import { maxFileBytes, RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import { topics } from "@castellan/testkit/contracts/RepoHost/contract.ts"
import { contractLimits } from "@castellan/testkit/contracts/RepoHost/contractLimits.ts"
import { author } from "../src/fakes/repo/MemoryAuthor.ts"
import * as MemoryGit from "../src/fakes/repo/MemoryGit.ts"
import * as MemoryRepoHost from "../src/fakes/repo/MemoryRepoHost.ts"
import { allClauses } from "@castellan/testkit/contracts/contract.ts"
import { type Mutant, sabotage } from "@castellan/testkit/sabotage.ts"
import { Effect, Option, Stream } from "effect"

type Host = RepoHost["Service"]
type Push = Host["push"]

/** Changes the entries of trees. */
const listing =
  (change: (entries: ReadonlyArray<TreeEntry>) => ReadonlyArray<TreeEntry>): Mutant<Host> =>
  (real) => ({
    tree: (repo, known) =>
      Effect.map(
        real.tree(repo, known),
        Option.map((tree) => ({ ...tree, entries: change(tree.entries) }))
      )
  })

/** Never marks a tree as truncated. */
const claimingWhole: Mutant<Host> = (real) => ({
  tree: (repo, known) =>
    Effect.map(
      real.tree(repo, known),
      Option.map((tree) => ({ ...tree, truncated: false }))
    )
})

/** Changes the bytes of files. */
const reading =
  (change: (bytes: Uint8Array) => Uint8Array): Mutant<Host> =>
  (real) => ({ readFile: (repo, path) => Effect.map(real.readFile(repo, path), change) })

/** Changes pushed bundles. */
const sending =
  (change: (bundle: MemoryGit.MemoryBundle, branch: BranchName) => MemoryGit.MemoryBundle) =>
  (real: Host): { readonly push: Push } => ({
    push: (repo, branch, bundle) =>
      Effect.flatMap(Stream.runCollect(bundle), (pieces) => {
        const bytes = Buffer.concat(pieces)
        const sent = Option.map(MemoryGit.decode(bytes), (read) => MemoryGit.encode(change(read, branch)))
        return real.push(repo, branch, Stream.make(Option.getOrElse(sent, () => bytes)))
      })
  })

/** Turns errors with these tags into successes. */
const obliging = (...tags: ReadonlyArray<string>): Mutant<Host> => {
  const obliged = <A, E extends { readonly _tag: string }, R>(effect: Effect.Effect<A, E, R>) =>
    Effect.catchIf(
      effect,
      (error) => tags.includes(error._tag),
      () => Effect.void
    ) as unknown as Effect.Effect<A, E, R>
  return (real) => ({
    push: ((repo, branch, bundle) => obliged(real.push(repo, branch, bundle as never))) as Push,
    readFile: (repo, path) => obliged(real.readFile(repo, path)),
    tree: (repo, known) => obliged(real.tree(repo, known)),
    fetch: (repo, branch, have, readAs) => obliged(real.fetch(repo, branch, have, readAs))
  })
}

/** Ignores the commits that the caller has. */
const fetchingAll: Mutant<Host> = (real) => ({
  fetch: (repo, branch, _, readAs) => real.fetch(repo, branch, [], readAs)
})

/** Reports the pushed commit as the head of a branch even if the push fails. */
const overwriting: Mutant<Host> = (real) => {
  const heads = new Map<string, CommitId>()
  return {
    push: ((repo, branch, bundle) =>
      Effect.gen(function* () {
        const bytes = Buffer.concat(yield* Stream.runCollect(bundle))
        heads.set(branch, Option.getOrThrow(MemoryGit.decode(bytes)).branches[branch]!)
        yield* Effect.ignore(real.push(repo, branch, Stream.make(bytes)))
      })) as Push,
    fetch: (repo, branch, have, readAs) =>
      Effect.map(
        real.fetch(repo, branch, have, readAs),
        Option.map((found) => ({ ...found, commit: heads.get(found.branch) ?? found.commit }))
      )
  }
}

const remaking: Mutant<Host> = (real) => ({
  ensure: (repo) => Effect.andThen(real.remove(repo), real.ensure(repo))
})

const none = () => Effect.succeed(Option.none())

const publish = (repo: Repo, bundle: Uint8Array) =>
  Effect.flatMap(MemoryRepoHost.MemoryRepos, (repos) => repos.publish(repo, bundle))

sabotage(RepoHost, MemoryRepoHost.layerWith({ treeLimits: contractLimits }), allClauses(topics(author, publish)), {
  "the host's URLs parse back to its repositories": (real) => ({
    supports: { ...real.supports, url: `${real.supports.url}/` }
  }),
  "the host's URLs contain no file path of its server, and former URLs name the same repositories": (real) => ({
    supports: { ...real.supports, url: real.supports.formerUrl! }
  }),
  "a new repository is private and empty and its default branch is main": (real) => ({
    ensure: (repo) => Effect.map(real.ensure(repo), (repository) => new Repository({ ...repository, isPrivate: false }))
  }),
  "ensure returns an existing repository unchanged": remaking,
  "concurrent ensures of one repository make one repository": (real) => ({
    ensure: (repo) => Effect.andThen(Effect.yieldNow, Effect.andThen(real.remove(repo), real.ensure(repo)))
  }),
  "find returns the repository with a name, or none": (real) => ({
    find: (repo) => Effect.asSome(real.ensure(repo))
  }),
  "names that differ only in case name one repository": (real) => {
    const exact = (repo: Repo) =>
      new Repo({ ...repo, name: RepoName.make(repo.name.replace(/[A-Z]/g, (letter) => `${letter}-`)) })
    return { find: (repo) => real.find(exact(repo)), remove: (repo) => real.remove(exact(repo)) }
  },
  "remove deletes a repository with its commits, and can be repeated": (real) => ({
    remove: (repo) => Effect.asVoid(real.find(repo))
  }),
  "operations on a repository that does not exist fail with RepoNotFound": obliging("RepoNotFound"),
  "a tree lists every file and directory with its git id, and every blob with its size": listing((entries) =>
    entries.filter(({ type }) => type === "blob")
  ),
  "a tree within the limits is complete even if it takes several reads": listing((entries) => entries.slice(0, 300)),
  "a tree with more entries than the limit is truncated and marked as truncated": claimingWhole,
  "a tree omits entries with too long a path and is marked as truncated": claimingWhole,
  "every path that git allows can be listed and read": listing((entries) =>
    entries.map((entry) => new TreeEntry({ ...entry, path: entry.path.normalize() }))
  ),
  "a tree is returned again only if it has changed since the known revision": (real) => ({
    tree: (repo) => real.tree(repo, null)
  }),
  "a submodule is listed as a tree without entries": listing((entries) =>
    entries.filter(({ path }) => !path.startsWith("lib/"))
  ),
  "trees and files are read from the default branch": (real) => ({
    push: (repo, _, bundle) =>
      sending(({ branches, ...more }) => ({
        ...more,
        branches: { ...branches, main: Object.values(branches)[0]! }
      }))(real).push(repo, BranchName.make("main"), bundle)
  }),
  "the default branch is an existing branch if the repository has one": (real) => ({
    tree: (repo, known) =>
      Effect.flatMap(Effect.scoped(real.fetch(repo, BranchName.make("main"), [], "service")), (found) =>
        Option.isSome(found) ? real.tree(repo, known) : Effect.succeed(Option.some(emptyTree("empty")))
      ) as ReturnType<Host["tree"]>
  }),
  "a file is read byte for byte": reading((bytes) => Buffer.from(Buffer.from(bytes).toString())),
  "reading a path that is not a file fails with RepoFileNotFound": obliging("RepoFileNotFound"),
  "reading a symbolic link returns the file of the repository that it leads to, and never leaves the repository":
    sending((bundle) => {
      const commits = bundle.commits.map(({ files, ...commit }) =>
        MemoryGit.commitOf({
          ...commit,
          files: new Map(Array.from(files, ([path, { bytes }]) => [path, MemoryGit.fileOf(bytes)]))
        })
      )
      return { ...bundle, commits, branches: { main: commits.at(-1)!.id } }
    }),
  "a file above the size limit fails with RepoFileTooLarge": reading((bytes) => bytes.subarray(0, maxFileBytes - 1)),
  "fetch returns a branch with all its commits, and the default branch if none is named": (real) => ({
    fetch: (repo, _, have, readAs) => real.fetch(repo, null, have, readAs)
  }),
  "fetch returns none for an empty repository or an unknown branch": (real) => ({
    fetch: (repo, branch, have, readAs) =>
      Effect.flatMap(real.fetch(repo, branch, have, readAs), (found) =>
        Option.isSome(found) ? Effect.succeed(found) : real.fetch(repo, null, have, readAs)
      )
  }),
  "a bundle omits the commits that the caller has and ignores unknown ids": fetchingAll,
  "fetch returns no bundle if the caller has every commit": fetchingAll,
  "a bundle can be read until its scope closes, even if the repository is removed": (real) => ({
    fetch: (repo, branch, have, readAs) =>
      Effect.map(
        real.fetch(repo, branch, have, readAs),
        Option.map((found) => {
          const later = Effect.map(real.fetch(repo, branch, have, readAs), (again) =>
            Option.getOrThrow(Option.getOrThrow(again).bundle)
          )
          return { ...found, bundle: Option.some(Stream.unwrap(Effect.orDie(later))) }
        })
      )
  }),
  "an anonymous fetch of a public repository works like a fetch as the service": (real) => ({
    fetch: (repo, branch, have) => real.fetch(repo, branch, have, "service")
  }),
  "an anonymous fetch of a private or missing repository fails with RepoNotFound": (real) => ({
    fetch: (repo, branch, have) => real.fetch(repo, branch, have, "service")
  }),
  "anonymous reads succeed for a public repository and fail for a private or missing one": (real) => ({
    isPublic: (repo) =>
      Effect.flatMap(real.isPublic(repo), (isPublic) =>
        isPublic ? Effect.succeed(true) : Effect.map(real.find(repo), Option.isSome)
      )
  }),
  "a push creates a branch and fast-forwards it": () => ({ push: () => Effect.void }),
  "a push that is not a fast-forward is rejected and changes nothing": overwriting,
  "pushing the current commit of a branch changes nothing": (real) => {
    let pushes = 0
    return {
      push: (repo, branch, bundle) => Effect.tap(real.push(repo, branch, bundle), () => Effect.sync(() => pushes++)),
      tree: (repo, known) =>
        known === String(pushes)
          ? none()
          : Effect.map(
              real.tree(repo, null),
              Option.map((tree) => ({ ...tree, revision: String(pushes) }))
            )
    }
  },
  "one of several concurrent pushes succeeds and the others are rejected": obliging("PushRejected"),
  "a push moves only the named branch of a bundle with several": (real) => ({
    push: ((repo, branch, bundle) =>
      Effect.gen(function* () {
        const bytes = Buffer.concat(yield* Stream.runCollect(bundle))
        const { branches } = Option.getOrThrow(MemoryGit.decode(bytes))
        for (const name of Object.keys(branches)) {
          yield* Effect.ignore(real.push(repo, BranchName.make(name), Stream.make(bytes)))
        }
        yield* real.push(repo, branch, Stream.make(bytes))
      })) as Push
  }),
  "an invalid, damaged or incomplete bundle is refused and changes nothing": obliging("BundleRefused"),
  "a push whose bundle stream fails fails with the stream's error and changes nothing": (real) => ({
    push: (repo, branch, bundle) =>
      real.push(
        repo,
        branch,
        Stream.catchCause(bundle, () => Stream.empty)
      ) as never
  })
})
