/** The shell scripts that run git inside a sandbox. They are constants: input is passed as arguments. */
import { Schema } from "effect"
import { Command } from "../sandbox/Command.ts"
import { SandboxPath } from "../sandbox/SandboxFile.ts"
import { type BranchName, CommitId } from "./Repo.ts"

/** `$0` of the scripts. */
export const scriptName = "castellan-checkout"

/** The directory of the working tree, below the sandbox's home directory. Nothing outside of it is ever committed. */
export const workspace = "workspace"

/** The working directory of a session's command: the workspace, or the requested path, relative to the workspace. */
export const workspacePath = (cwd: string | null): string =>
  cwd === null ? workspace : cwd.startsWith("/") ? cwd : `${workspace}/${cwd}`

/** Bundles of commits on their way in and out. They are below `.git`, so they are never committed. */
const bundleIn = ".git/castellan-in.bundle"
const bundleOut = ".git/castellan-out.bundle"
export const incomingBundle = SandboxPath.make(`${workspace}/${bundleIn}`)
export const outgoingBundle = SandboxPath.make(`${workspace}/${bundleOut}`)

/**
 * Paths that `git add` skips without `-f`: installed packages, and the credential files of agents and tools, which programs
 * may write here if they use the workspace as their home directory.
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

/** The excluded paths of earlier versions, in which the home directory was the working tree. */
const excludedOfHome = [
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

/** The subject of a setup's commits in versions in which the home directory was the working tree. */
const setupSubjectOfHome = "Update sandbox files"

/** The subject of the commit that removes the home directory's own files from the repository of an environment. */
const leftOutSubject = "Leave the home directory's files out"

/** Exit code of a script whose last line of stderr is a sentence for the sandbox's owner. */
export const refusalCode = 65

/**
 * Moves path `$1` of the home directory to `$2` in the new tree, atomically. A directory of a lower overlay layer can't be
 * renamed: it is copied next to the tree and then renamed. A path that can't be copied stays where it is. The text must not
 * have single quotes, because the scripts also assign it to a variable.
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
 * Moves the working tree of earlier versions, the home directory, into a workspace. `$whole`: the home directory was the
 * working tree; without it, it was if it has a repository of this server. `$setup`: a setup runs this, so files of the home
 * directory that earlier setups committed stay there. A dotfile is moved if it is tracked. In a session it is copied if it
 * is a file that the repository ignores. Every other dotfile may be a credential and stays.
 */
const relocate = `
bringing='${bring}'
eval "$bringing"
# The home directory's own files that setups committed; none once a commit has removed them.
byServer() { git log --no-merges --fixed-strings --author="<$GIT_AUTHOR_EMAIL>" --grep="$@"; }
ofHome() {
  [ -z "$(byServer "${leftOutSubject}" -1 --format=%H HEAD)" ] || return 0
  [ -n "$(byServer "${setupSubjectOfHome}" -1 --format=%H HEAD)" ] || return 0
  byServer "${setupSubjectOfHome}" --diff-filter=A --format= --name-only -z HEAD -- \\
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
    # A directory named workspace that is not tracked: its files belong to the new workspace.
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
  { ${lines(excludedOfHome)} | grep -vxF -f - "$moving/.git/info/exclude" || :; ${lines(excluded)}; } > "$part"
  mv "$part" "$moving/.git/info/exclude"
  ! present workspace || refuse "~/workspace could not be moved"
  mv "$moving" workspace
}
`

/**
 * The start of every script. `$1`: branch, `$2`: commit message, `$3` and `$4`: name and email of the author. A lock admits
 * one script at a time. Locks of killed git processes are removed if no git runs. `GIT_DIR` and `GIT_WORK_TREE` are set, so
 * that no configuration of the repository leads elsewhere.
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
  exit ${refusalCode}
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
# For setups only: the repository of a session has no such commits.
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
 * Commits all files on the branch. If the sandbox is at another branch, its files stay as they are and the commits of the
 * branch are merged into them. Prints the commit that the host last had.
 */
const commitAll = `${begin({ setup: true })}
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
 * Merges commit `$5` of the host, and bundles the commits that the host lacks. On conflicts the files have the sandbox's
 * lines and the history has both commits; no commit is ever dropped.
 */
const merge = `${begin({ setup: true })}
if [ -n "$5" ]; then
  if ! has "$5"; then git fetch -q --no-tags "${bundleIn}" "+refs/heads/$1:refs/castellan/theirs"; fi
  git update-ref refs/castellan/theirs "$5"
else
  # The repository is empty: forget the commit of an earlier one.
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

/** Records that the host has commit `$5`, and deletes the bundle. */
const confirmPush = `${begin()}
git update-ref refs/castellan/theirs "$5"
rm -f "${bundleOut}"
`

/** Prints commits that the sandbox already has: of branch `$1`, of the last synchronized repository, and its own head. */
const listKnown = `${begin()}
for ref in "refs/remotes/origin/$1" refs/castellan/theirs HEAD; do
  if has "$ref"; then echo "known $(git rev-parse "$ref")"; fi
done
rm -f "${bundleIn}"
`

/** Moves the working tree of a session from its home directory into the workspace. */
const relocateSession = begin({ whole: true })

/**
 * Checks out branch `$1` at commit `$5` of the repository at `$6`; without a commit the branch is empty. Overwrites changes
 * of tracked files. Fails before it changes any file if an untracked file is where the commit has one. First finishes an
 * interrupted checkout, whose files are not changes. `$7` and `$8`: name and email for the git configuration; may be empty.
 */
const clone = `${begin()}
export GIT_LFS_SKIP_SMUDGE=1
plain() {
  set -- -c submodule.recurse=false -c fetch.recurseSubmodules=false -c core.excludesFile=/dev/null "$@"
  # Git LFS files stay pointers, even if git-lfs is not installed.
  command -v git-lfs > /dev/null || set -- -c filter.lfs.process= -c filter.lfs.required=false "$@"
  git "$@"
}
dropRefs() { git for-each-ref --format='option no-deref%0adelete %(refname)' "$1" | git update-ref --stdin; }
# A ref can't exist if its name is a directory of another ref.
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
  # Remove the branches of another repository, only now because the bundle may be based on them.
  [ "$url" = "$6" ] || dropRefs refs/remotes/origin/
  # Excluded files also count as conflicts.
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
      echo "A file in the sandbox conflicts with a file of the repository: $path" >&2
      exit ${refusalCode}
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
# Keep an author that was already configured.
if [ -n "$7" ]; then
  git config user.name > /dev/null || git config user.name "$7"
  git config user.email > /dev/null || git config user.email "$8"
fi
git config --replace-all remote.origin.url "$6"
mkdir -p .git/info
ready
`

/** The author of commits. */
export interface Author {
  readonly name: string
  readonly email: string
}

export interface CheckoutOptions {
  readonly branch: BranchName
  /** The message of a commit of the sandbox's files. */
  readonly message: string
  readonly author: Author
  /** The heading of the README that an empty repository gets. */
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

/** For scripts that commit nothing; git writes the author only into its reflog. */
const scriptAuthor = {
  message: "",
  author: { name: scriptName, email: `${scriptName}@noreply.invalid` }
}

/** The commands that synchronize a sandbox's files with a repository. */
export const checkoutCommands = {
  commitAll: (options: CheckoutOptions) => script(commitAll, options),
  merge: (options: CheckoutOptions, theirs: CommitId | null) => script(merge, options, theirs ?? "", options.title),
  confirmPush: (options: CheckoutOptions, commit: CommitId) => script(confirmPush, options, commit),
  relocate: () => script(relocateSession, { ...scriptAuthor, branch: "" }),
  listKnown: (branch: BranchName | null) => script(listKnown, { ...scriptAuthor, branch: branch ?? "" }),
  clone: (branch: BranchName, commit: CommitId | null, url: string, author?: Author) =>
    script(clone, { ...scriptAuthor, branch }, commit ?? "", url, author?.name ?? "", author?.email ?? "")
}

/** The scripts by name, for fakes that have no shell. */
export const checkoutScripts = { commitAll, merge, confirmPush, relocate: relocateSession, listKnown, clone }

const toCommit = Schema.decodeUnknownSync(CommitId)

type Label = "ahead" | "known" | "same"

/** The distinct commits that a script printed after a label. */
export const printedCommits = (stdout: string, label: Label): ReadonlyArray<CommitId> => {
  const matches = stdout.matchAll(new RegExp(`^${label} ([0-9a-f]+)$`, "gm"))
  return [...new Set(Array.from(matches, (match) => toCommit(match[1])))]
}

/** The first commit that a script printed after a label; null if it printed none. */
export const printedCommit = (stdout: string, label: Label): CommitId | null => printedCommits(stdout, label)[0] ?? null
