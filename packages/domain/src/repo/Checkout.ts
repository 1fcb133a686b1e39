/** The shell scripts that do git's work inside a sandbox. Nothing in them is put together from input. */
import { Schema } from "effect"
import { Command } from "../sandbox/Command.ts"
import { SandboxPath } from "../sandbox/SandboxFile.ts"
import { type BranchName, CommitId } from "./Repo.ts"

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

const exclude = `printf '%s\\n' ${excluded.map((line) => `'${line}'`).join(" ")} > .git/info/exclude`

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
if [ -e /proc/self/stat ]; then
  cat /proc/[0-9]*/stat 2> /dev/null | grep -q '^[0-9]* (git[^)]*) [^ZX]' ||
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
${exclude}
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
else
  # What another repository had is not there.
  git update-ref -d refs/castellan/theirs
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

/** Prints commits that the sandbox has already: where branch `$1` stood, where the last repository did, and its own. */
const look = `${begin}
for ref in "refs/remotes/origin/$1" refs/castellan/theirs HEAD; do
  if has "$ref"; then echo "known $(git rev-parse "$ref")"; fi
done
rm -f "${incoming}"
`

/** The code of a script that ends with a sentence for the sandbox's owner. */
export const refusal = 65

/**
 * Brings branch `$1` in at commit `$5` from the repository at `$6`; without a commit the branch is there and empty.
 * Changes to what an older commit has give way. Other files that lie where the commit has some don't: then it fails,
 * before it touches anything. What was cut off while it wrote is finished first: those files are its own. `$7` and `$8`
 * are the name and the address of whoever commits there from then on; empty where nobody is to.
 */
const clone = `${begin}
export GIT_LFS_SKIP_SMUDGE=1
plain() {
  set -- -c submodule.recurse=false -c fetch.recurseSubmodules=false -c core.excludesFile=/dev/null "$@"
  # Files that are kept elsewhere stay pointers, also where the program for them is missing.
  command -v git-lfs > /dev/null || set -- -c filter.lfs.process= -c filter.lfs.required=false "$@"
  git "$@"
}
drop() { git for-each-ref --format='option no-deref%0adelete %(refname)' "$1" | git update-ref --stdin; }
# No branch can be where another's name is a directory.
make_way() {
  part=$2
  while [ "\${part%/*}" != "$part" ]; do
    part=\${part%/*}
    if has "$1/$part"; then git update-ref --no-deref -d "$1/$part"; fi
  done
  drop "$1/$2/"
}
ready() {
  ${exclude}
  rm -f "${incoming}" .git/ORIG_HEAD .git/FETCH_HEAD
}
url=$(git config remote.origin.url || true)
git config --replace-all remote.origin.fetch "+refs/heads/*:refs/remotes/origin/*"
git config --replace-all "branch.$1.remote" origin
git config --replace-all "branch.$1.merge" "refs/heads/$1"
if [ -n "$5" ]; then
  if ! has "$5"; then plain fetch -q --no-tags "${incoming}" "+refs/heads/$1:refs/castellan/theirs"; fi
  git update-ref refs/castellan/theirs "$5"
  # Another repository's branches are none of this one's; what the bundle built on was in them.
  [ "$url" = "$6" ] || drop refs/remotes/origin/
  # What is nobody else's business is not worth less for it.
  mkdir -p .git/info
  : > .git/info/exclude
  if has refs/castellan/cloning; then
    plain checkout -q -f --detach refs/castellan/cloning --
    git update-ref -d refs/castellan/cloning
  fi
  if has HEAD; then
    old=HEAD
    plain reset -q
    plain reset -q --hard
  else
    old=$(git hash-object -t tree /dev/null)
    git read-tree --empty
  fi
  if ! found=$(plain read-tree -n -m -u "$old" "$5" 2>&1); then
    ready
    path=$(printf '%s\\n' "$found" | sed -n "s/^error: [^']*'\\(.*\\)'.*/\\1/p" | head -n 1)
    if [ -n "$path" ]; then
      echo "A file in the sandbox stands in the way of the repository's: $path" >&2
      exit ${refusal}
    fi
    printf '%s\\n' "$found" >&2
    exit 1
  fi
  git update-ref refs/castellan/cloning "$5"
  plain checkout -q --detach "$5" --
  git update-ref -d refs/castellan/cloning
  make_way refs/heads "$1"
  plain checkout -q -B "$1"
  make_way refs/remotes/origin "$1"
  git update-ref "refs/remotes/origin/$1" "$5"
elif ! has HEAD; then
  git symbolic-ref HEAD "refs/heads/$1"
fi
# Whoever has said who they are stays that.
if [ -n "$7" ]; then
  git config user.name > /dev/null || git config user.name "$7"
  git config user.email > /dev/null || git config user.email "$8"
fi
git config --replace-all remote.origin.url "$6"
mkdir -p .git/info
ready
`

/** Who commits. */
export interface Author {
  readonly name: string
  readonly email: string
}

export interface CheckoutOptions {
  readonly branch: BranchName
  /** What a commit of the sandbox's files says. */
  readonly message: string
  readonly author: Author
  /** The heading of the first file, where there is none. */
  readonly title: string
}

const script = (
  text: string,
  { author, branch, message }: Pick<CheckoutOptions, "author" | "message"> & { readonly branch: string },
  ...more: ReadonlyArray<string>
): Command =>
  new Command({
    command: "sh",
    args: ["-c", text, scriptName, branch, message, author.name, author.email, ...more],
    cwd: null,
    env: {}
  })

/** Where nothing is committed, only git's own notes say who it was. */
const nobody = {
  message: "",
  author: { name: scriptName, email: `${scriptName}@noreply.invalid` }
}

/** The stages of bringing a sandbox's files and a repository together, as commands. */
export const stages = {
  record: (options: CheckoutOptions) => script(record, options),
  merge: (options: CheckoutOptions, theirs: CommitId | null) => script(merge, options, theirs ?? "", options.title),
  settle: (options: CheckoutOptions, commit: CommitId) => script(settle, options, commit),
  look: (branch: BranchName | null) => script(look, { ...nobody, branch: branch ?? "" }),
  clone: (branch: BranchName, commit: CommitId | null, url: string, author?: Author) =>
    script(clone, { ...nobody, branch }, commit ?? "", url, author?.name ?? "", author?.email ?? "")
}

/** The scripts by their names, for whoever has no shell to run them with. */
export const scripts = { record, merge, settle, look, clone }

const toCommit = Schema.decodeUnknownSync(CommitId)

type Word = "ahead" | "known" | "same"

/** The commits that a stage printed after a word, each once. */
export const allSaid = (stdout: string, word: Word): ReadonlyArray<CommitId> => {
  const matches = stdout.matchAll(new RegExp(`^${word} ([0-9a-f]+)$`, "gm"))
  return [...new Set(Array.from(matches, (match) => toCommit(match[1])))]
}

/** The first of them; none if it did not say the word. */
export const said = (stdout: string, word: Word): CommitId | null => allSaid(stdout, word)[0] ?? null
