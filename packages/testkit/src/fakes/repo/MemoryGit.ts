/** Commits in memory, with git's ids for files and trees, and bundles encoded as JSON. */
import { TreeEntry } from "@castellan/domain/repo/FileTree.ts"
import { CommitId } from "@castellan/domain/repo/Repo.ts"
import { Option, Schema } from "effect"
import { createHash } from "node:crypto"

const Kind = Schema.Literals(["file", "link", "submodule"])
type Kind = typeof Kind.Type

/** The content at a path of a commit: a file, a link (the bytes are its target) or a submodule (the bytes are its commit). */
export interface MemoryFile {
  readonly kind: Kind
  readonly bytes: Uint8Array
  /** Git's id of the content. */
  readonly sha: string
}

/** Files by their relative path, with `/` as the separator. */
export type Files = ReadonlyMap<string, MemoryFile>

export interface MemoryCommit {
  readonly id: CommitId
  readonly parents: ReadonlyArray<CommitId>
  readonly message: string
  readonly files: Files
  /** Git's id of the root tree. Commits with equal trees have equal files. */
  readonly tree: string
}

/** Commits by their id. */
export type Commits = ReadonlyMap<CommitId, MemoryCommit>

const idOf = (type: "blob" | "tree" | "commit", ...parts: ReadonlyArray<Uint8Array>): string => {
  const hash = createHash("sha1").update(`${type} ${parts.reduce((size, part) => size + part.length, 0)}\0`)
  for (const part of parts) hash.update(part)
  return hash.digest("hex")
}

/** Content with these bytes and its git id. */
export const fileOf = (bytes: Uint8Array, kind: Kind = "file"): MemoryFile => ({
  kind,
  bytes,
  sha: kind === "submodule" ? Buffer.from(bytes).toString() : idOf("blob", bytes)
})

const modes = { file: "100644", link: "120000", submodule: "160000", directory: "40000" }

interface Directory {
  readonly kind: "directory"
  readonly below: Map<string, Directory | MemoryFile>
}

const directory = (): Directory => ({ kind: "directory", below: new Map() })

/** Every file and directory by its path, directories first, and the id of the root tree. */
const treeOf = (files: Files) => {
  const root = directory()
  for (const [path, file] of files) {
    const parts = path.split("/")
    let at = root
    for (const part of parts.slice(0, -1)) {
      const known = at.below.get(part)
      const next = known?.kind === "directory" ? known : directory()
      at.below.set(part, next)
      at = next
    }
    at.below.set(parts.at(-1)!, file)
  }
  const entries: Array<TreeEntry> = []
  const walk = ({ below }: Directory, prefix: string): string => {
    // Git sorts by bytes, and a directory as if its name ended with a slash.
    const sorted = [...below]
      .map(([name, node]) => ({ name, node, key: Buffer.from(node.kind === "directory" ? `${name}/` : name) }))
      .sort((a, b) => Buffer.compare(a.key, b.key))
    const lines = sorted.flatMap(({ name, node }) => {
      const path = prefix + name
      const place = entries.length
      const sha = node.kind === "directory" ? walk(node, `${path}/`) : node.sha
      const isBlob = node.kind === "file" || node.kind === "link"
      const entry = isBlob
        ? new TreeEntry({ path, type: "blob", sha, size: node.bytes.length })
        : new TreeEntry({ path, type: "tree", sha })
      entries.splice(place, 0, entry)
      return [Buffer.from(`${modes[node.kind]} ${name}\0`), Buffer.from(sha, "hex")]
    })
    return idOf("tree", ...lines)
  }
  const id = walk(root, "")
  return { id, entries }
}

/** The tree of a commit as a host lists it. */
export const entriesOf = ({ files }: Pick<MemoryCommit, "files">): ReadonlyArray<TreeEntry> => treeOf(files).entries

/** Makes a commit. Equal files, parents and message make an equal commit. */
export const commitOf = (made: Pick<MemoryCommit, "files" | "message" | "parents">): MemoryCommit => {
  const files = new Map(made.files)
  const tree = treeOf(files).id
  const lines = [`tree ${tree}`, ...made.parents.map((parent) => `parent ${parent}`), "", made.message]
  const id = CommitId.make(idOf("commit", Buffer.from(lines.join("\n"))))
  return { id, parents: made.parents, message: made.message, files, tree }
}

/** A commit and its ancestors, nearest first. */
export const ancestors = (commits: Commits, ...from: ReadonlyArray<CommitId>): ReadonlySet<CommitId> => {
  const seen = new Set(from.filter((id) => commits.has(id)))
  for (const id of seen) for (const parent of commits.get(id)?.parents ?? []) seen.add(parent)
  return seen
}

/** Whether `to` contains `from`, so that a branch can be fast-forwarded from one to the other. */
export const isAncestor = (commits: Commits, from: CommitId, to: CommitId): boolean => ancestors(commits, to).has(from)

/** The nearest common ancestor; none if the histories have no commit in common. */
export const mergeBase = (commits: Commits, ours: CommitId, theirs: CommitId): Option.Option<CommitId> => {
  const mine = ancestors(commits, ours)
  const shared = [...ancestors(commits, theirs)].filter((id) => mine.has(id))
  return Option.fromUndefinedOr(shared.find((id) => !shared.some((one) => one !== id && isAncestor(commits, id, one))))
}

/** The result of a merge: the files, and the paths that both sides changed differently. */
export interface Merged {
  /** Our version where there is a conflict. */
  readonly files: Files
  readonly conflicts: ReadonlyArray<string>
}

/** Merges three states of files: a file that one side changed has that side's version. */
export const mergeFiles = (base: Files, ours: Files, theirs: Files): Merged => {
  const same = (a: MemoryFile | undefined, b: MemoryFile | undefined) => a?.sha === b?.sha && a?.kind === b?.kind
  const files = new Map<string, MemoryFile>()
  const conflicts: Array<string> = []
  for (const path of new Set([...ours.keys(), ...theirs.keys()])) {
    const [before, mine, other] = [base.get(path), ours.get(path), theirs.get(path)]
    const chosen = same(mine, before) ? other : mine
    if (!same(mine, before) && !same(other, before) && !same(mine, other)) conflicts.push(path)
    if (chosen !== undefined) files.set(path, chosen)
  }
  // A file on one side where the other has a directory.
  for (const path of files.keys()) {
    const above = path.split("/").slice(0, -1)
    if (above.some((_, depth) => files.has(above.slice(0, depth + 1).join("/")))) conflicts.push(path)
  }
  return { files, conflicts: conflicts.sort() }
}

/** Merges two known commits over their merge base. */
export const merge = (commits: Commits, ours: CommitId, theirs: CommitId): Merged => {
  const filesOf = (id: CommitId) => commits.get(id)!.files
  const base = Option.map(mergeBase(commits, ours, theirs), filesOf)
  return mergeFiles(
    Option.getOrElse(base, () => new Map()),
    filesOf(ours),
    filesOf(theirs)
  )
}

/** Branches with commits, as they are transferred. */
export interface MemoryBundle {
  readonly branches: Readonly<Record<string, CommitId>>
  /** The commits that the receiver must have. */
  readonly needs: ReadonlyArray<CommitId>
  /** Each commit follows its parents. */
  readonly commits: ReadonlyArray<MemoryCommit>
}

/** Bundles a branch without the commits of `have`; unknown ids are ignored. None if nothing is left. */
export const bundleOf = (
  commits: Commits,
  branch: string,
  tip: CommitId,
  have: ReadonlyArray<CommitId> = []
): Option.Option<MemoryBundle> => {
  const there = ancestors(commits, ...have)
  const sent = [...ancestors(commits, tip)].filter((id) => !there.has(id))
  if (sent.length === 0) return Option.none()
  const news = new Set(sent)
  const ordered = new Set<CommitId>()
  const place = (id: CommitId): void => {
    if (!news.has(id) || ordered.has(id)) return
    for (const parent of commits.get(id)!.parents) place(parent)
    ordered.add(id)
  }
  place(tip)
  const made = [...ordered].map((id) => commits.get(id)!)
  const needs = new Set(made.flatMap(({ parents }) => parents).filter((id) => !news.has(id)))
  return Option.some({ branches: { [branch]: tip }, needs: [...needs], commits: made })
}

/** Adds the commits of a bundle; none if a prerequisite or the head of a branch is missing. */
export const unbundled = (commits: Commits, bundle: MemoryBundle): Option.Option<Commits> => {
  const all = new Map(commits)
  if (bundle.needs.some((id) => !all.has(id))) return Option.none()
  for (const commit of bundle.commits) {
    if (commit.parents.some((id) => !all.has(id))) return Option.none()
    all.set(commit.id, commit)
  }
  return Object.values(bundle.branches).every((id) => all.has(id)) ? Option.some(all) : Option.none()
}

// Ids of commits are not transferred: the receiver computes them from the content.
const Encoded = Schema.fromJsonString(
  Schema.Struct({
    branches: Schema.Record(Schema.String, CommitId),
    needs: Schema.Array(CommitId),
    blobs: Schema.Record(Schema.String, Schema.Uint8ArrayFromBase64),
    commits: Schema.Array(
      Schema.Struct({
        parents: Schema.Array(CommitId),
        message: Schema.String,
        files: Schema.Array(Schema.Tuple([Schema.String, Kind, Schema.String]))
      })
    )
  })
)

/** Encodes a bundle. */
export const encode = ({ branches, commits, needs }: MemoryBundle): Uint8Array => {
  const blobs: Record<string, Uint8Array> = {}
  const written = commits.map(({ files, message, parents }) => ({
    parents,
    message,
    files: Array.from(files, ([path, { bytes, kind, sha }]) => {
      blobs[sha] = bytes
      return [path, kind, sha] as const
    })
  }))
  return Buffer.from(Schema.encodeSync(Encoded)({ branches, needs, blobs, commits: written }))
}

/** Decodes a bundle; none if the bytes are not one. */
export const decode = (bytes: Uint8Array): Option.Option<MemoryBundle> =>
  Option.flatMap(
    Schema.decodeUnknownOption(Encoded)(Buffer.from(bytes).toString()),
    ({ blobs, branches, commits, needs }) => {
      const known = new Map(Object.entries(blobs))
      if (commits.some(({ files }) => files.some(([, , sha]) => !known.has(sha)))) return Option.none()
      const made = commits.map(({ files, message, parents }) =>
        commitOf({
          message,
          parents,
          files: new Map(files.map(([path, kind, sha]) => [path, fileOf(known.get(sha)!, kind)]))
        })
      )
      return Option.some({ branches, needs, commits: made })
    }
  )
