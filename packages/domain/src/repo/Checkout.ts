/** The shell scripts that do git's work inside a sandbox. Nothing in them is put together from input. */
import { Schema } from "effect"
import { Command } from "../sandbox/Command.ts"
import { SandboxPath } from "../sandbox/SandboxFile.ts"
import { type BranchName, CommitId, firstBranch } from "./Repo.ts"

/** What the scripts call themselves. */
export const scriptName = "castellan-checkout"

/** Where commits lie on their way in and out; below `.git`, so that they are never part of a commit. */
export const incoming = SandboxPath.make(".git/castellan-in.bundle")
export const outgoing = SandboxPath.make(".git/castellan-out.bundle")

/** What of a home directory is nobody else's business: caches, histories, and where programs keep credentials. */
const excluded = [
  "/.cache/",
  "/.config/",
  "/.local/",
  "/.npm/",
  "/.ssh/",
  "/.gnupg/",
  "/.aws/",
  "/.docker/",
  "/.netrc",
  "/.npmrc",
  "/.pypirc",
  "/.git-credentials",
  "/.*_history",
  "node_modules/"
]

/**
 * `$1` is the branch, `$2` the message, `$3` and `$4` who commits. One at a time. What was killed left its locks: where
 * no git runs they are nobody's.
 */
const begin = `
set -eu
export GIT_AUTHOR_NAME="$3" GIT_AUTHOR_EMAIL="$4" GIT_COMMITTER_NAME="$3" GIT_COMMITTER_EMAIL="$4"
export GIT_TERMINAL_PROMPT=0 LC_ALL=C
git() { command git -c core.hooksPath=/dev/null -c commit.gpgSign=false -c gc.auto=0 -c protocol.file.allow=always "$@"; }
command -v git > /dev/null || exit 127
[ -e .git ] || git init -q .
exec 9> .git/castellan.lock
if command -v flock > /dev/null; then flock 9; fi
if [ -e /proc/self/comm ]; then
  cat /proc/[0-9]*/comm 2> /dev/null | grep -q '^git' ||
    find .git -path .git/objects -prune -o -name '*.lock' ! -name castellan.lock -exec rm -f {} +
else
  rm -f .git/index.lock
fi
has() { git rev-parse -q --verify "$1^{commit}" > /dev/null; }
commit_all() {
  git add -A --ignore-errors . || echo "some files could not be added" >&2
  if [ -e .git/MERGE_HEAD ] || ! git diff --cached --quiet; then git commit -q --no-verify -m "$1"; fi
}
join() {
  for again in 1 2 3; do
    git merge -q --no-edit --allow-unrelated-histories -X ours -m "$2" "$1" > /dev/null && return
    commit_all "$2"
    git merge-base --is-ancestor "$1" HEAD && return
  done
  return 1
}
`

/**
 * Commits what there is, on the branch: whatever other one the sandbox is at, its files stay as they are, and what the
 * branch had besides comes to them. Prints the commit that the host was last known to have.
 */
const record = `${begin}
mkdir -p .git/info
printf '%s\\n' ${excluded.map((line) => `'${line}'`).join(" ")} > .git/info/exclude
has HEAD || git symbolic-ref HEAD "refs/heads/$1"
commit_all "$2"
if [ "$(git symbolic-ref -q --short HEAD || true)" != "$1" ]; then
  if has "refs/heads/$1"; then
    git checkout -q --detach
    join "refs/heads/$1" "Merge what is on $1"
  fi
  git checkout -q -B "$1"
fi
if has refs/castellan/theirs; then echo "known $(git rev-parse refs/castellan/theirs)"; fi
`

/**
 * Takes in what the host has at commit `$5`, and makes a bundle of what it has not. Where both changed the same lines
 * the sandbox's stand in the files and both stand in the history; no commit is ever dropped.
 */
const merge = `${begin}
if [ -n "$5" ]; then
  if ! has "$5"; then git fetch -q --no-tags "${incoming}" "+refs/heads/$1:refs/castellan/theirs"; fi
  git update-ref refs/castellan/theirs "$5"
fi
rm -f "${incoming}"
if has refs/castellan/theirs; then
  if ! has HEAD; then
    git reset -q --hard refs/castellan/theirs
  elif ! git merge-base --is-ancestor refs/castellan/theirs HEAD; then
    join refs/castellan/theirs "Merge what is in the repository"
  fi
fi
if ! has HEAD; then
  printf '# %s\\n' "$6" > README.md
  git add README.md
  git commit -q --no-verify -m "$2"
fi
if has refs/castellan/theirs && [ "$(git rev-parse refs/castellan/theirs)" = "$(git rev-parse HEAD)" ]; then
  echo "same $(git rev-parse HEAD)"
else
  if has refs/castellan/theirs; then
    git bundle create -q "${outgoing}" "refs/heads/$1" ^refs/castellan/theirs
  else
    git bundle create -q "${outgoing}" "refs/heads/$1"
  fi
  echo "ahead $(git rev-parse HEAD)"
fi
`

/** Remembers that the host has commit `$5`, and tidies up. */
const settle = `${begin}
git update-ref refs/castellan/theirs "$5"
rm -f "${outgoing}"
`

/** Prints the commit that the sandbox has of the repository already, where it was made from an image of it. */
const look = `${begin}
if has refs/castellan/theirs; then echo "known $(git rev-parse refs/castellan/theirs)"; fi
`

/**
 * Brings branch `$1` in at commit `$5` from the repository at `$6`; without a commit the branch is there and empty. What
 * lies in the way and is no file of the repository's is left alone: then it fails.
 */
const clone = `${begin}
if git remote get-url origin > /dev/null 2>&1; then git remote set-url origin "$6"; else git remote add origin "$6"; fi
git config "branch.$1.remote" origin
git config "branch.$1.merge" "refs/heads/$1"
if [ -n "$5" ]; then
  if ! has "$5"; then git fetch -q --no-tags "${incoming}" "+refs/heads/$1:refs/castellan/theirs"; fi
  git update-ref refs/castellan/theirs "$5"
  git update-ref "refs/remotes/origin/$1" "$5"
  git checkout -q -B "$1" "$5" --
elif ! has HEAD; then
  git symbolic-ref HEAD "refs/heads/$1"
fi
rm -f "${incoming}"
`

export interface CheckoutOptions {
  readonly branch: BranchName
  /** What a commit of the sandbox's files says. */
  readonly message: string
  readonly author: { readonly name: string; readonly email: string }
  /** The heading of the first file, where there is none. */
  readonly title: string
}

const script = (text: string, { author, branch, message }: CheckoutOptions, ...more: ReadonlyArray<string>): Command =>
  new Command({
    command: "sh",
    args: ["-c", text, scriptName, branch, message, author.name, author.email, ...more],
    cwd: null,
    env: {}
  })

/** Where nothing is committed it is nobody who commits. */
const nobody = (branch: BranchName): CheckoutOptions => ({
  branch,
  message: "",
  author: { name: "", email: "" },
  title: ""
})

/** The stages of bringing a sandbox's files and a repository together, as commands. */
export const stages = {
  record: (options: CheckoutOptions) => script(record, options),
  merge: (options: CheckoutOptions, theirs: CommitId | null) => script(merge, options, theirs ?? "", options.title),
  settle: (options: CheckoutOptions, commit: CommitId) => script(settle, options, commit),
  look: script(look, nobody(firstBranch)),
  clone: (branch: BranchName, commit: CommitId | null, url: string) => script(clone, nobody(branch), commit ?? "", url)
}

/** The scripts by their names, for whoever has no shell to run them with. */
export const scripts = { record, merge, settle, look, clone }

const toCommit = Schema.decodeUnknownSync(CommitId)

/** The commit that a stage printed after a word; none if it did not say the word. */
export const said = (stdout: string, word: "ahead" | "known" | "same"): CommitId | null => {
  const match = new RegExp(`^${word} ([0-9a-f]+)$`, "m").exec(stdout)
  return match === null ? null : toCommit(match[1])
}
