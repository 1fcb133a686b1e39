/** Runs the scripts of `Checkout` in sandboxes in memory, without a shell or git. */
import {
  checkoutScripts,
  incomingBundle,
  outgoingBundle,
  refusalCode,
  scriptName,
  workspace
} from "@castellan/domain/repo/Checkout.ts"
import { CommitId } from "@castellan/domain/repo/Repo.ts"
import { Option } from "effect"
import { home, type MemoryFiles, resolve } from "../sandbox/MemoryFiles.ts"
import * as Git from "./MemoryGit.ts"

const top = resolve(home, workspace)
const at = (path: string) => resolve(top, path)

const read = (files: MemoryFiles, path: string): string | undefined => {
  const bytes = files.read(at(path))
  return bytes === undefined ? undefined : Buffer.from(bytes).toString()
}

const commitIn = (files: MemoryFiles, path: string): CommitId | undefined => {
  const text = read(files, path)
  return text === undefined ? undefined : CommitId.make(text)
}

const branchOf = (branch: string) => `.git/refs/heads/${branch}`
const theirs = ".git/refs/castellan/theirs"

/** The repository of a sandbox. It is a file of the sandbox, so that snapshots and forks have it too. */
class WorkingTree {
  private readonly files: MemoryFiles
  readonly now: number
  private readonly branch: string
  commits: Git.Commits

  constructor(files: MemoryFiles, branch: string, now: number) {
    this.files = files
    this.now = now
    this.branch = branch
    const stored = files.read(at(".git/objects"))
    const bundle = stored === undefined ? Option.none() : Git.decode(stored)
    this.commits = Option.getOrElse(
      Option.flatMap(bundle, (one) => Git.unbundled(new Map(), one)),
      () => new Map()
    )
  }

  get head(): CommitId | undefined {
    return commitIn(this.files, branchOf(this.branch))
  }

  get theirs(): CommitId | undefined {
    return commitIn(this.files, theirs)
  }

  write(path: string, content: string | Uint8Array): void {
    this.files.write(at(path), typeof content === "string" ? Buffer.from(content) : content, this.now)
  }

  keep(commit: Git.MemoryCommit): CommitId {
    this.commits = new Map(this.commits).set(commit.id, commit)
    this.store()
    this.write(branchOf(this.branch), commit.id)
    return commit.id
  }

  store(): void {
    const all = { branches: {}, needs: [], commits: [...this.commits.values()] }
    this.write(".git/objects", Git.encode(all))
  }

  /** The files that a commit would contain. */
  get tree(): Git.Files {
    const found = this.files
      .list(top, Number.MAX_SAFE_INTEGER)
      .filter(({ path, type }) => type === "file" && !/^\.git(\/|$)/.test(path))
    return new Map(found.map(({ path }) => [path, Git.fileOf(this.files.read(at(path))!)]))
  }

  commitAll(message: string): void {
    const parent = this.head
    const files = this.tree
    if (parent === undefined && files.size === 0) return
    const commit = Git.commitOf({ files, parents: parent === undefined ? [] : [parent], message })
    if (parent === undefined || this.commits.get(parent)!.tree !== commit.tree) this.keep(commit)
  }

  checkout(files: Git.Files): void {
    for (const path of this.tree.keys()) if (!files.has(path)) this.files.remove(at(path))
    for (const [path, { bytes }] of files) this.write(path, bytes)
  }

  /** Checks out a commit; untracked files stay. */
  moveTo(id: CommitId, before: Git.Files): void {
    const { files } = this.commits.get(id)!
    for (const path of before.keys()) if (!files.has(path)) this.files.remove(at(path))
    for (const [path, { bytes }] of files) this.write(path, bytes)
    this.write(branchOf(this.branch), id)
  }

  takeIn(): void {
    const other = this.theirs
    if (other === undefined) return
    const mine = this.head
    if (mine !== undefined && Git.isAncestor(this.commits, other, mine)) return
    if (mine === undefined || Git.isAncestor(this.commits, mine, other)) {
      this.write(branchOf(this.branch), other)
      return this.checkout(this.commits.get(other)!.files)
    }
    const { files } = Git.merge(this.commits, mine, other)
    this.keep(Git.commitOf({ files, parents: [mine, other], message: "Merge what is in the repository" }))
    this.checkout(files)
  }
}

const record = (work: WorkingTree, message: string): string => {
  work.commitAll(message)
  return work.theirs === undefined ? "" : `known ${work.theirs}\n`
}

const merge = (
  work: WorkingTree,
  files: MemoryFiles,
  branch: string,
  message: string,
  commit: string,
  title: string
) => {
  if (commit !== "") {
    const id = CommitId.make(commit)
    if (!work.commits.has(id)) {
      const bytes = files.read(resolve(home, incomingBundle))
      const bundle = bytes === undefined ? Option.none() : Git.decode(bytes)
      const all = Option.flatMap(bundle, (one) => Git.unbundled(work.commits, one))
      if (Option.isNone(all)) return undefined
      work.commits = all.value
      work.store()
    }
    work.write(theirs, id)
  } else {
    files.remove(at(theirs))
  }
  files.remove(resolve(home, incomingBundle))
  work.takeIn()
  if (work.head === undefined) {
    work.write("README.md", `# ${title}\n`)
    work.commitAll(message)
  }
  const head = work.head!
  if (head === work.theirs) return `same ${head}\n`
  const have = work.theirs === undefined ? [] : [work.theirs]
  const bundle = Git.bundleOf(work.commits, branch, head, have)
  files.write(resolve(home, outgoingBundle), Git.encode(Option.getOrThrow(bundle)), work.now)
  return `ahead ${head}\n`
}

const look = (work: WorkingTree, files: MemoryFiles): string => {
  files.remove(resolve(home, incomingBundle))
  return work.theirs === undefined ? "" : `known ${work.theirs}\n`
}

/** The error output and exit code of a script. */
export interface Refusal {
  readonly code: number
  readonly stderr: string
}

const clone = (
  work: WorkingTree,
  files: MemoryFiles,
  commit: string,
  url: string,
  user: readonly [name: string, email: string]
): string | Refusal | undefined => {
  const known = /\[user\][^[]*/.exec(read(files, ".git/config") ?? "")?.[0]
  const said = known ?? (user[0] === "" ? "" : `[user]\n\tname = ${user[0]}\n\temail = ${user[1]}\n`)
  work.write(".git/config", `[remote "origin"]\n\turl = ${url}\n${said}`)
  if (commit === "") return ""
  const id = CommitId.make(commit)
  const before = work.theirs === undefined ? new Map() : work.commits.get(work.theirs)!.files
  if (!work.commits.has(id)) {
    const bytes = files.read(resolve(home, incomingBundle))
    const bundle = bytes === undefined ? Option.none() : Git.decode(bytes)
    const all = Option.flatMap(bundle, (one) => Git.unbundled(work.commits, one))
    if (Option.isNone(all)) return undefined
    work.commits = all.value
    work.store()
  }
  files.remove(resolve(home, incomingBundle))
  const obstacle = [...work.commits.get(id)!.files.keys()].find((path) => !before.has(path) && work.tree.has(path))
  if (obstacle !== undefined) {
    return { code: refusalCode, stderr: `A file in the sandbox conflicts with a file of the repository: ${obstacle}\n` }
  }
  work.write(theirs, id)
  work.moveTo(id, before)
  return ""
}

const dotted = /^\./

/** Moves a working tree in the home directory to the workspace, as the script does. */
const relocate = (files: MemoryFiles, whole: boolean): void => {
  const objects = files.read(resolve(home, ".git/objects"))
  if (files.isDirectory(at(".git")) || (objects === undefined && !whole)) return
  const bundle = objects === undefined ? Option.none() : Git.decode(objects)
  const known = Option.match(bundle, { onNone: () => [], onSome: ({ commits }) => [...commits.values()] })
  const tracked = new Set(known.flatMap((commit) => [...commit.files.keys()]))
  for (const { path, type } of files.list(home, Number.MAX_SAFE_INTEGER)) {
    if (type === "directory" || (dotted.test(path) && !path.startsWith(".git/") && !tracked.has(path))) continue
    files.move(resolve(home, path), at(path))
  }
}

/** Runs a script of a checkout and returns its output or failure; none if the arguments are not one. */
export const runCheckout = (
  files: MemoryFiles,
  args: ReadonlyArray<string>,
  now: number
): string | Refusal | undefined => {
  const [, text, name, branch = "", message = "", , , commit = "", title = "", user = "", email = ""] = args
  if (name !== scriptName) return undefined
  relocate(files, text === checkoutScripts.relocate)
  files.write(at(".git/castellan.lock"), new Uint8Array(), now)
  if (text === checkoutScripts.relocate) return ""
  const work = new WorkingTree(files, branch, now)
  if (text === checkoutScripts.commitAll) return record(work, message)
  if (text === checkoutScripts.merge) return merge(work, files, branch, message, commit, title)
  if (text === checkoutScripts.listKnown) return look(work, files)
  if (text === checkoutScripts.clone) return clone(work, files, commit, title, [user, email])
  if (text !== checkoutScripts.confirmPush) return undefined
  work.write(theirs, commit)
  files.remove(resolve(home, outgoingBundle))
  return ""
}
