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

/** Lists something else than there is. */
const listing =
  (change: (entries: ReadonlyArray<TreeEntry>) => ReadonlyArray<TreeEntry>): Mutant<Host> =>
  (real) => ({
    tree: (repo, known) =>
      Effect.map(
        real.tree(repo, known),
        Option.map((tree) => ({ ...tree, entries: change(tree.entries) }))
      )
  })

/** Says of each tree that nothing is left out. */
const claimingWhole: Mutant<Host> = (real) => ({
  tree: (repo, known) =>
    Effect.map(
      real.tree(repo, known),
      Option.map((tree) => ({ ...tree, truncated: false }))
    )
})

/** Reads something else than there is. */
const reading =
  (change: (bytes: Uint8Array) => Uint8Array): Mutant<Host> =>
  (real) => ({ readFile: (repo, path) => Effect.map(real.readFile(repo, path), change) })

/** Sends something else than what was pushed. */
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

/** Says of what it refuses that it was done. */
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

/** Fetches without looking at what is there. */
const fetchingAll: Mutant<Host> = (real) => ({
  fetch: (repo, branch, _, readAs) => real.fetch(repo, branch, [], readAs)
})

/** Whatever a branch had, it has the pushed commits now. */
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
  "a host's URL is one, and leads to each of its repositories": (real) => ({
    supports: { ...real.supports, url: `${real.supports.url}/` }
  }),
  "a host's URLs hold no path of its server, and those of older versions name the same repositories": (real) => ({
    supports: { ...real.supports, url: real.supports.formerUrl! }
  }),
  "a new repository is private and empty, and begins with the branch main": (real) => ({
    ensure: (repo) => Effect.map(real.ensure(repo), (repository) => new Repository({ ...repository, isPrivate: false }))
  }),
  "a repository that stands is given back untouched": remaking,
  "making a repository ten times at once makes one": (real) => ({
    ensure: (repo) => Effect.andThen(Effect.yieldNow, Effect.andThen(real.remove(repo), real.ensure(repo)))
  }),
  "find gives the repository of a name, and none where there is none": (real) => ({
    find: (repo) => Effect.asSome(real.ensure(repo))
  }),
  "names that differ in case alone are of one repository": (real) => {
    const exact = (repo: Repo) =>
      new Repo({ ...repo, name: RepoName.make(repo.name.replace(/[A-Z]/g, (letter) => `${letter}-`)) })
    return { find: (repo) => real.find(exact(repo)), remove: (repo) => real.remove(exact(repo)) }
  },
  "remove forgets a repository with its commits, and may be repeated": (real) => ({
    remove: (repo) => Effect.asVoid(real.find(repo))
  }),
  "a repository that is not there is said to be, whatever is asked of it": obliging("RepoNotFound"),
  "a tree has every file and every directory, with git's ids, and the size of what is a blob": listing((entries) =>
    entries.filter(({ type }) => type === "blob")
  ),
  "a tree is whole, however many files it has": listing((entries) => entries.slice(0, 3000)),
  "a tree that has more entries than are read is cut, and says so": claimingWhole,
  "an entry whose path is too long is left out of the tree, which says so": claimingWhole,
  "a path is whatever git lets it be, in a tree and for reading": listing((entries) =>
    entries.map((entry) => new TreeEntry({ ...entry, path: entry.path.normalize() }))
  ),
  "a tree is given again only when something changed": (real) => ({ tree: (repo) => real.tree(repo, null) }),
  "a submodule is a tree without entries": listing((entries) => entries.filter(({ path }) => !path.startsWith("lib/"))),
  "what is read is the default branch": (real) => ({
    push: (repo, _, bundle) =>
      sending(({ branches, ...more }) => ({
        ...more,
        branches: { ...branches, main: Object.values(branches)[0]! }
      }))(real).push(repo, BranchName.make("main"), bundle)
  }),
  "the default branch is one that exists, once any branch does": (real) => ({
    tree: (repo, known) =>
      Effect.flatMap(Effect.scoped(real.fetch(repo, BranchName.make("main"), [], "service")), (found) =>
        Option.isSome(found) ? real.tree(repo, known) : Effect.succeed(Option.some(emptyTree("empty")))
      ) as ReturnType<Host["tree"]>
  }),
  "a file is read to the byte": reading((bytes) => Buffer.from(Buffer.from(bytes).toString())),
  "what is no file is not found": obliging("RepoFileNotFound"),
  "a link is read as the file of the repository it leads to, and leads nowhere else": sending((bundle) => {
    const commits = bundle.commits.map(({ files, ...commit }) =>
      MemoryGit.commitOf({
        ...commit,
        files: new Map(Array.from(files, ([path, { bytes }]) => [path, MemoryGit.fileOf(bytes)]))
      })
    )
    return { ...bundle, commits, branches: { main: commits.at(-1)!.id } }
  }),
  "a file is read up to the size that is said, and refused beyond": reading((bytes) =>
    bytes.subarray(0, maxFileBytes - 1)
  ),
  "a branch is fetched with all its commits, the default one if none is named": (real) => ({
    fetch: (repo, _, have, readAs) => real.fetch(repo, null, have, readAs)
  }),
  "there is nothing to fetch of an empty repository, or of a branch that nobody made": (real) => ({
    fetch: (repo, branch, have, readAs) =>
      Effect.flatMap(real.fetch(repo, branch, have, readAs), (found) =>
        Option.isSome(found) ? Effect.succeed(found) : real.fetch(repo, null, have, readAs)
      )
  }),
  "a bundle leaves out what is there already, and ids nobody knows don't matter": fetchingAll,
  "there is no bundle when everything is there": fetchingAll,
  "a bundle can be read until the scope closes, whatever becomes of the branch": (real) => ({
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
  "a repository that is public is fetched in the right of anyone, as the service fetches its own": (real) => ({
    fetch: (repo, branch, have) => real.fetch(repo, branch, have, "service")
  }),
  "a repository that is private, or not there, is not found in the right of anyone": (real) => ({
    fetch: (repo, branch, have) => real.fetch(repo, branch, have, "service")
  }),
  "a repository that is public is read in the right of anyone, and a private one is not": (real) => ({
    isPublic: (repo) =>
      Effect.flatMap(real.isPublic(repo), (isPublic) =>
        isPublic ? Effect.succeed(true) : Effect.map(real.find(repo), Option.isSome)
      )
  }),
  "a push makes a branch, and moves it forward": () => ({ push: () => Effect.void }),
  "a push that the branch's commits are not in is rejected, and changes nothing": overwriting,
  "pushing the commit that a branch stands at changes nothing": (real) => {
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
  "of many that push at once one is first, and the others are told so": obliging("PushRejected"),
  "a push moves one branch, whatever else the bundle has": (real) => ({
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
  "what is no bundle, is damaged, has not the branch or not what it builds on, is refused and changes nothing":
    obliging("BundleRefused"),
  "a bundle that breaks off fails with its own error, and changes nothing": (real) => ({
    push: (repo, branch, bundle) =>
      real.push(
        repo,
        branch,
        Stream.catchCause(bundle, () => Stream.empty)
      ) as never
  })
})
