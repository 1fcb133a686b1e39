/** The shell scripts that do git's work inside a sandbox. Nothing in them is put together from input. */
import { Schema } from "effect"
import { Command } from "../sandbox/Command.ts"
import { SandboxPath } from "../sandbox/SandboxFile.ts"
import { type BranchName, CommitId } from "./Repo.ts"

/** What the scripts call themselves. */
export const scriptName = "castellan-checkout"

/** The directory of a sandbox's working tree, below its home directory. Nothing else of the sandbox is ever committed. */
export const workspace = "workspace"

/** Where a command of a session runs: in the workspace, or at a path that its caller gives relative to it. */
export const inWorkspace = (cwd: string | null): string =>
  cwd === null ? workspace : cwd.startsWith("/") ? cwd : `${workspace}/${cwd}`

/** Where commits lie on their way in and out; below `.git`, so that they are never part of a commit. */
const bundleIn = ".git/castellan-in.bundle"
const bundleOut = ".git/castellan-out.bundle"
export const incoming = SandboxPath.make(`${workspace}/${bundleIn}`)
export const outgoing = SandboxPath.make(`${workspace}/${bundleOut}`)

/**
 * What `git add` leaves out of the workspace without `-f`: installed packages, and the files in which agents and tools
 * keep credentials, for programs that take the workspace for their home directory.
 */
const excluded = [
  "node_modules/",
  ...[
    ".codex/auth.json",
    ".claude/.credentials.json",
    ".gemini/oauth_creds.json",
    ".local/share/opencode/auth.json",
    ".config/gh/hosts.yml",
    ".config/gcloud/",
    ".kube/config",
    ".aws/credentials",
    ".docker/config.json",
    ".ssh/",
    ".gnupg/",
    ".netrc",
    ".pypirc",
    ".git-credentials"
  ].map((path) => `**/${path}`)
]

/** What was left out while the home directory was the working tree. */
const excludedBefore = [
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

const lines = (all: ReadonlyArray<string>) => `printf '%s\\n' ${all.map((line) => `'${line}'`).join(" ")}`

const exclude = `${lines(excluded)} > .git/info/exclude`

/** The subject of the commits of setups while the home directory was the working tree. */
const setupSubjectBefore = "Update sandbox files"

/** The subject of the commit that takes the home directory's own files out of the repository of an environment. */
const leftOutSubject = "Leave the home directory's files out"

/** The code of a script that ends with a sentence for the sandbox's owner. */
export const refusal = 65

/**
 * Moves a path `$1` of the home directory to `$2` in the new tree. A path in the new tree is always whole: a directory
 * that can't be renamed, since it is of a lower layer, is copied beside it first. What can't be copied stays. No quote
 * may be in here, since the shell has this as a text as well.
 */
const bring = `
moving=.castellan-workspace
part=.castellan-workspace.part
present() { [ -e "$1" ] || [ -L "$1" ]; }
discard() {
  [ -L "./$1" ] || chmod -R u+rwX "./$1" 2> /dev/null || :
  rm -rf "./$1"
}
renamed() { perl -e "rename(\\$ARGV[0], \\$ARGV[1]) or exit 1" "./$1" "$2" 2> /dev/null; }
bring() {
  present "./$1" || return 0
  if ! present "$moving/$2"; then
    case $2 in */*) mkdir -p "$moving/\${2%/*}" ;; esac
    if renamed "$1" "$moving/$2"; then return 0; fi
    discard "$part"
    if ! cp -a "./$1" "$part"; then
      discard "$part"
      return 0
    fi
    mv "$part" "$moving/$2"
  fi
  discard "$1"
}
bringAll() {
  for path; do
    bring "$path" "$path"
    case $path in */*) rmdir -p "./\${path%/*}" 2> /dev/null || : ;; esac
  done
}
copyFiles() {
  for path; do
    case $path in */*) continue ;; esac
    if cp -a "./$path" "$part"; then mv "$part" "$moving/$path"; fi
  done
}
`

/**
 * Makes the workspace of a home directory that was the working tree itself, as servers had it before. `$whole` says that
 * it was; else it was if it has a repository that a server made. `$setup` says that a setup asks: what earlier setups
 * committed of the home directory's own files stays in it. A path that begins with a dot is moved if it is tracked. Of a
 * session it is copied if it is a file that the repository ignores. Any other one may be a credential and stays.
 */
const relocate = `
bringing='${bring}'
eval "$bringing"
# Paths that setups committed of the home directory's own files. None once a commit has left them out.
byServer() { git log --no-merges --fixed-strings --author="<$GIT_AUTHOR_EMAIL>" --grep="$@"; }
ofHome() {
  [ -z "$(byServer "${leftOutSubject}" -1 --format=%H HEAD)" ] || return 0
  [ -n "$(byServer "${setupSubjectBefore}" -1 --format=%H HEAD)" ] || return 0
  byServer "${setupSubjectBefore}" --diff-filter=A --format= --name-only -z HEAD -- \\
    '.*' ':(exclude).gitignore' ':(exclude).gitattributes' ':(exclude).gitmodules' ':(exclude).github'
}
drop() { git --literal-pathspecs rm -q "$@" --ignore-unmatch --pathspec-from-file=- --pathspec-file-nul; }
relocate() {
  [ -n "$whole" ] || [ -e .git/castellan.lock ] || [ -d "$moving" ] || return 0
  mkdir -p "$moving"
  if [ ! -e "$moving/.git" ]; then
    export GIT_DIR=.git GIT_WORK_TREE=.
    rm -f .git/index.lock
    if [ -n "$setup" ] && has HEAD; then
      ofHome > "$part.list"
      [ ! -s "$part.list" ] || drop --cached < "$part.list"
      rm -f "$part.list"
    fi
    # What was put into the directory when it was known by this name already.
    if [ -n "$setup" ] && [ ! -L workspace ] && [ ! -e workspace/.git ] && [ -z "$(git ls-files workspace | head -n 1)" ]; then
      for path in workspace/* workspace/.[!.]* workspace/..?*; do
        present "\${path#workspace/}" || bring "$path" "\${path#workspace/}"
      done
      rmdir workspace 2> /dev/null || :
    fi
    if [ -n "$whole" ]; then
      { git ls-files -z -o -i --directory --exclude-per-directory=.gitignore -- '.*' 2> /dev/null || :; } |
        xargs -0 sh -euc "$bringing"'copyFiles "$@"' sh
    fi
    bringAll *
    bringAll .gitignore .gitattributes .gitmodules
    { git ls-files -z -- '.*' 2> /dev/null || :; } |
      xargs -0 sh -euc "$bringing"'bringAll "$@"' sh
    unset GIT_DIR GIT_WORK_TREE
    bring .git .git
    ! present .git || refuse "The repository could not be moved to ~/workspace"
    [ -e "$moving/.git" ] || git init -q "$moving"
  fi
  discard .git
  mkdir -p "$moving/.git/info"
  touch "$moving/.git/castellan.lock" "$moving/.git/info/exclude"
  { ${lines(excludedBefore)} | grep -vxF -f - "$moving/.git/info/exclude" || :; ${lines(excluded)}; } > "$part"
  mv "$part" "$moving/.git/info/exclude"
  ! present workspace || refuse "~/workspace could not be moved"
  mv "$moving" workspace
}
`

/**
 * `$1` is the branch, `$2` the message, `$3` and `$4` who commits. One at a time. What was killed left its locks: where
 * no git runs they are nobody's. Git is told where the tree is, so that no setting in it leads elsewhere.
 */
const begin = ({ setup = false, whole = false } = {}) => `
set -eu
setup=${setup ? 1 : ""} whole=${whole ? 1 : ""}
export GIT_AUTHOR_NAME="$3" GIT_AUTHOR_EMAIL="$4" GIT_COMMITTER_NAME="$3" GIT_COMMITTER_EMAIL="$4"
export GIT_TERMINAL_PROMPT=0 LC_ALL=C
git() {
  command git -c core.hooksPath=/dev/null -c core.fsmonitor=false -c core.pager=cat -c commit.gpgSign=false \\
    -c gc.auto=0 -c protocol.file.allow=always "$@"
}
refuse() {
  echo "$1" >&2
  exit ${refusal}
}
has() { git rev-parse -q --verify "$1^{commit}" > /dev/null; }
command -v git > /dev/null || exit 127
${relocate}
home=$(pwd -P)
if [ -L workspace ] || [ ! -e workspace/.git/castellan.lock ]; then
  exec 8< .
  if command -v flock > /dev/null; then flock 8; fi
  if [ -L workspace ] || [ ! -e workspace/.git/castellan.lock ]; then relocate; fi
  exec 8<&-
fi
[ -L workspace ] || mkdir -p workspace
cd workspace
[ "$(pwd -P)" = "\${home%/}/workspace" ] || refuse "~/workspace must be a directory, not a link"
[ -e .git ] || git init -q .
exec 9> .git/castellan.lock
export GIT_DIR="$PWD/.git" GIT_WORK_TREE="$PWD"
if command -v flock > /dev/null; then flock 9; fi
if [ -e /proc/self/stat ]; then
  cat /proc/[0-9]*/stat 2> /dev/null | grep -q '^[0-9]* (git[^)]*) [^ZX]' ||
    find .git -path .git/objects -prune -o -name '*.lock' ! -name castellan.lock -exec rm -f {} +
else
  rm -f .git/index.lock
fi
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
# A setup's alone: a session's repository is none of an environment.
leaveHomeOut() {
  has HEAD || return 0
  ofHome > .git/castellan-home
  if [ -s .git/castellan-home ]; then
    drop -f < .git/castellan-home
    git commit -q --no-verify --allow-empty -m "${leftOutSubject}"
  fi
  rm -f .git/castellan-home
}
`

/**
 * Commits what there is, on the branch: whatever other one the sandbox is at, its files stay as they are, and what the
 * branch had besides comes to them. Prints the commit that the host was last known to have.
 */
const record = `${begin({ setup: true })}
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
leaveHomeOut
if has refs/castellan/theirs; then echo "known $(git rev-parse refs/castellan/theirs)"; fi
`

/**
 * Takes in what the host has at commit `$5`, and makes a bundle of what it has not. Where both changed the same lines
 * the sandbox's stand in the files and both stand in the history; no commit is ever dropped.
 */
const merge = `${begin({ setup: true })}
if [ -n "$5" ]; then
  if ! has "$5"; then git fetch -q --no-tags "${bundleIn}" "+refs/heads/$1:refs/castellan/theirs"; fi
  git update-ref refs/castellan/theirs "$5"
else
  # What another repository had is not there.
  git update-ref -d refs/castellan/theirs
fi
rm -f "${bundleIn}"
if has refs/castellan/theirs; then
  if ! has HEAD; then
    git reset -q --hard refs/castellan/theirs
  elif ! git merge-base --is-ancestor refs/castellan/theirs HEAD; then
    join refs/castellan/theirs "Merge what is in the repository"
  fi
  leaveHomeOut
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
    git bundle create -q "${bundleOut}" "refs/heads/$1" ^refs/castellan/theirs
  else
    git bundle create -q "${bundleOut}" "refs/heads/$1"
  fi
  echo "ahead $(git rev-parse HEAD)"
fi
`

/** Remembers that the host has commit `$5`, and tidies up. */
const settle = `${begin()}
git update-ref refs/castellan/theirs "$5"
rm -f "${bundleOut}"
`

/** Prints commits that the sandbox has already: where branch `$1` stood, where the last repository did, and its own. */
const look = `${begin()}
for ref in "refs/remotes/origin/$1" refs/castellan/theirs HEAD; do
  if has "$ref"; then echo "known $(git rev-parse "$ref")"; fi
done
rm -f "${bundleIn}"
`

/** Makes the workspace of a home directory that was the working tree of a session. */
const move = begin({ whole: true })

/**
 * Brings branch `$1` in at commit `$5` from the repository at `$6`; without a commit the branch is there and empty.
 * Changes to what an older commit has give way. Other files that lie where the commit has some don't: then it fails,
 * before it touches anything. What was cut off while it wrote is finished first: those files are its own. `$7` and `$8`
 * are the name and the address of whoever commits there from then on; empty where nobody is to.
 */
const clone = `${begin()}
export GIT_LFS_SKIP_SMUDGE=1
plain() {
  set -- -c submodule.recurse=false -c fetch.recurseSubmodules=false -c core.excludesFile=/dev/null "$@"
  # Files that are kept elsewhere stay pointers, also where the program for them is missing.
  command -v git-lfs > /dev/null || set -- -c filter.lfs.process= -c filter.lfs.required=false "$@"
  git "$@"
}
dropRefs() { git for-each-ref --format='option no-deref%0adelete %(refname)' "$1" | git update-ref --stdin; }
# No branch can be where another's name is a directory.
make_way() {
  part=$2
  while [ "\${part%/*}" != "$part" ]; do
    part=\${part%/*}
    if has "$1/$part"; then git update-ref --no-deref -d "$1/$part"; fi
  done
  dropRefs "$1/$2/"
}
ready() {
  ${exclude}
  rm -f "${bundleIn}" .git/ORIG_HEAD .git/FETCH_HEAD
}
url=$(git config remote.origin.url || true)
git config --replace-all remote.origin.fetch "+refs/heads/*:refs/remotes/origin/*"
git config --replace-all "branch.$1.remote" origin
git config --replace-all "branch.$1.merge" "refs/heads/$1"
if [ -n "$5" ]; then
  if ! has "$5"; then plain fetch -q --no-tags "${bundleIn}" "+refs/heads/$1:refs/castellan/theirs"; fi
  git update-ref refs/castellan/theirs "$5"
  # Another repository's branches are none of this one's; what the bundle built on was in them.
  [ "$url" = "$6" ] || dropRefs refs/remotes/origin/
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
  relocate: () => script(move, { ...nobody, branch: "" }),
  look: (branch: BranchName | null) => script(look, { ...nobody, branch: branch ?? "" }),
  clone: (branch: BranchName, commit: CommitId | null, url: string, author?: Author) =>
    script(clone, { ...nobody, branch }, commit ?? "", url, author?.name ?? "", author?.email ?? "")
}

/** The scripts by their names, for whoever has no shell to run them with. */
export const scripts = { record, merge, settle, relocate: move, look, clone }

const toCommit = Schema.decodeUnknownSync(CommitId)

type Word = "ahead" | "known" | "same"

/** The commits that a stage printed after a word, each once. */
export const allSaid = (stdout: string, word: Word): ReadonlyArray<CommitId> => {
  const matches = stdout.matchAll(new RegExp(`^${word} ([0-9a-f]+)$`, "gm"))
  return [...new Set(Array.from(matches, (match) => toCommit(match[1])))]
}

/** The first of them; none if it did not say the word. */
export const said = (stdout: string, word: Word): CommitId | null => allSaid(stdout, word)[0] ?? null
