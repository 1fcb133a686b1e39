/** Commits from workspaces to repositories on this disk, with real git in real sandboxes. */
import { workspace } from "@castellan/domain/repo/Checkout.ts"
import { Checkouts } from "@castellan/domain/repo/Checkouts.ts"
import { RepoPath } from "@castellan/domain/repo/FileTree.ts"
import { firstBranch, Repo, RepoName } from "@castellan/domain/repo/Repo.ts"
import { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import * as RepoUrl from "@castellan/domain/repo/RepoUrl.ts"
import { Command } from "@castellan/domain/sandbox/Command.ts"
import { Sandboxes } from "@castellan/domain/sandbox/Sandboxes.ts"
import { SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Layer, Option } from "effect"
import { SecureRandom } from "effect/crypto"
import { execFileSync } from "node:child_process"
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"

import { tmpdir } from "node:os"
import { join } from "node:path"
import { local as repositories } from "../git-local/temporaryRepos.ts"
import { localProvider as provider } from "../local/temporary.ts"

const world = Checkouts.layer.pipe(
  Layer.provideMerge(Sandboxes.layer),
  Layer.provideMerge(Layer.mergeAll(provider(), repositories)),
  Layer.provide(SecureRandom.layerWebCrypto)
)

const author = { name: "Castellan", email: "castellan@noreply.invalid" }
const options = { branch: firstBranch, message: "Update the workspace", author, title: "one" }

/** A running sandbox and a repository without commits. */
const begun = Effect.gen(function* () {
  const sandbox = SandboxName.make(`sbx_${SecureRandom.uuidV4Unsafe().replaceAll("-", "")}`)
  const lifetime = Duration.minutes(5)
  yield* (yield* SandboxProvider).create({ name: sandbox, from: Option.none(), lifetime })
  const host = yield* RepoHost
  const repo = new Repo({ owner: host.supports.owner, name: RepoName.make(sandbox) })
  yield* host.ensure(repo)
  const checkouts = yield* Checkouts
  return { sandbox, repo, sync: checkouts.sync(sandbox, repo, options), host }
})

/** The output of a shell command in the sandbox's workspace, or in `directory`. */
const runIn = Effect.fnUntraced(function* (sandbox: SandboxName, script: string, directory: string = workspace) {
  const there = 'mkdir -p "$0"; cd "$0"; '
  const command = new Command({ command: "sh", args: ["-ec", there + script, directory], cwd: null, env: {} })
  const { end, stderr, stdout } = yield* (yield* Sandboxes).run(sandbox, command, Duration.minutes(1))
  assert.strictEqual(end.exitCode, 0, `${script}\n${stderr}`)
  return stdout
})

const environment = { PATH: "/usr/local/bin:/usr/bin:/bin", HOME: "/nonexistent", GIT_CONFIG_NOSYSTEM: "1" }
const identity = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.com"]

/** A clone outside the sandbox, removed with the scope. */
const cloneOf = (repo: Repo) =>
  Effect.gen(function* () {
    const { supports } = yield* RepoHost
    const directory = yield* Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "castellan-clone-"))),
      (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
    )
    const git = (...args: ReadonlyArray<string>) =>
      execFileSync("git", [...identity, "-C", directory, ...args], { env: environment, encoding: "utf8" })
    git("clone", "--quiet", RepoUrl.urlOf(supports.formerUrl ?? supports.url, repo), ".")
    return {
      directory,
      git,
      text: (path: string) => readFileSync(join(directory, path), "utf8"),
      /** Writes a file, commits and pushes it. */
      push: (path: string, text: string) => {
        git("pull", "--quiet", "--no-rebase")
        writeFileSync(join(directory, path), text)
        git("add", "-A")
        git("commit", "--quiet", "-m", `somebody's ${path}`)
        git("push", "--quiet")
      },
      pull: () => git("pull", "--quiet", "--no-rebase")
    }
  })

describe("A commit of a workspace", () => {
  it.live("contains files with odd names, links, executables, nested repositories and thousands of files", () =>
    Effect.gen(function* () {
      const { repo, sandbox, sync } = yield* begun
      yield* runIn(
        sandbox,
        `printf one > 'with space'; printf two > 'grüße 字'; printf three > "$(printf 'line\\nbreak')"
         printf four > -dash; printf '#!/bin/sh\\n' > run; chmod +x run; ln -s 'with space' link; ln -s /etc/passwd far
         mkdir nested && git init -q nested && printf five > nested/file
         mkdir many && cd many && for n in $(seq 5000); do echo "$n" > "f$n"; done
         cd .. && mkdir -p node_modules/x .config && echo m > node_modules/x/m && echo a > .bashrc && echo a > .npmrc
         echo a > .config/app && mkdir -p ../.codex ../.config && echo key | tee ../.codex/auth.json > ../.config/gh
         printf '[core]\n\tfsmonitor = touch caught\n' > .gitconfig
         mkfifo pipe && : > empty && mkdir nothing`
      )
      yield* sync
      const clone = yield* cloneOf(repo)
      const lines = clone.git("ls-tree", "-r", "-z", "HEAD").split("\0").filter(Boolean)
      const modes = new Map(lines.map((line) => [line.slice(line.indexOf("\t") + 1), line.slice(0, 6)]))
      assert.strictEqual([...modes.keys()].filter((path) => path.startsWith("many/")).length, 5000)
      const others = [...modes.keys()].filter((path) => !path.startsWith("many/")).toSorted()
      const ours = [".bashrc", ".config/app", ".gitconfig", ".npmrc"]
      const wanted = [...ours, "-dash", "empty", "far", "grüße 字", "line\nbreak", "link", "run", "with space"]
      assert.deepStrictEqual(others, wanted.toSorted())
      assert.deepStrictEqual([modes.get("run"), modes.get("link"), modes.get("empty")], ["100755", "120000", "100644"])
      assert.deepStrictEqual([clone.text("line\nbreak"), clone.text("many/f4999")], ["three", "4999\n"])
    }).pipe(Effect.scoped, Effect.provide(world))
  )

  it.live("merges commits that others pushed in the meantime, also for the same line", () =>
    Effect.gen(function* () {
      const { repo, sandbox, sync } = yield* begun
      yield* runIn(sandbox, "printf 'a\\nb\\nc\\n' > file; echo gone > gone; echo edited > edited")
      yield* sync
      const clone = yield* cloneOf(repo)
      clone.push("theirs", "theirs\n")
      clone.push("file", "a\ntheirs\nc\n")
      clone.push("edited", "edited by somebody\n")
      yield* runIn(sandbox, "printf 'a\\nours\\nc\\n' > file; rm edited gone; echo ours > ours; git init -q empty")
      yield* sync
      clone.pull()
      assert.strictEqual(clone.text("file"), "a\nours\nc\n")
      assert.strictEqual(
        yield* runIn(sandbox, "cat file theirs ours edited"),
        "a\nours\nc\ntheirs\nours\nedited by somebody\n"
      )
      const history = clone.git("log", "--format=%s")
      for (const subject of ["somebody's theirs", "somebody's file", "Update the workspace"]) {
        assert.include(history, subject)
      }
      assert.notInclude(readdirSync(clone.directory), "gone")
      const head = clone.git("rev-parse", "HEAD").trim()
      assert.strictEqual(yield* sync, head)
      assert.strictEqual((yield* runIn(sandbox, "git rev-parse HEAD; git status --porcelain -uno")).trim(), head)
    }).pipe(Effect.scoped, Effect.provide(world))
  )

  it.live("works from any branch, during a merge and during a rebase, and leaves the files in place", () =>
    Effect.gen(function* () {
      const { repo, sandbox, sync } = yield* begun
      const git = "git -c user.name=me -c user.email=me@example.com"
      yield* runIn(sandbox, "echo 1 > base")
      yield* sync
      yield* runIn(
        sandbox,
        `git checkout -q -b feature; echo 2 > feature; git add -A; ${git} commit -q -m mine; echo 3 > loose`
      )
      yield* sync
      const clone = yield* cloneOf(repo)
      assert.deepStrictEqual([clone.text("feature"), clone.text("loose")], ["2\n", "3\n"])
      assert.strictEqual(yield* runIn(sandbox, "cat base feature loose"), "1\n2\n3\n")
      yield* runIn(sandbox, `git checkout -q --detach; echo 4 > detached; git add -A; ${git} commit -q -m far`)
      yield* sync
      clone.pull()
      assert.strictEqual(clone.text("detached"), "4\n")
      assert.strictEqual(yield* runIn(sandbox, "cat detached"), "4\n")
      yield* runIn(
        sandbox,
        `git checkout -q -b one; echo one > base; ${git} commit -q -a -m one
         git checkout -q -b two HEAD~1; echo two > base; ${git} commit -q -a -m two; ${git} merge one || true`
      )
      yield* sync
      clone.pull()
      assert.include(clone.text("base"), "two")
      yield* runIn(
        sandbox,
        `git checkout -q -b three HEAD; echo three > base; ${git} commit -q -a -m three
         git checkout -q -b four HEAD~1; echo four > base; ${git} commit -q -a -m four; ${git} rebase three || true; echo kept > kept`
      )
      yield* sync
      clone.pull()
      assert.strictEqual(clone.text("kept"), "kept\n")
    }).pipe(Effect.scoped, Effect.provide(world))
  )

  it.live("fails with git's message for files that git rejects, and succeeds once they are gone", () =>
    Effect.gen(function* () {
      const { sandbox, sync } = yield* begun
      yield* runIn(sandbox, "echo nonsense > .git; echo 1 > file")
      const failure = yield* Effect.flip(sync)
      assert.strictEqual(failure._tag, "CheckoutFailed")
      assert.match("reason" in failure ? String(failure.reason) : "", /^Git failed in the sandbox/)
      yield* runIn(sandbox, "rm .git")
      yield* sync
      // A killed commit leaves locks and half a bundle.
      yield* runIn(
        sandbox,
        "echo 2 > file; : > .git/index.lock; echo half > .git/castellan-in.bundle; : > .git/HEAD.lock; : > .git/refs/heads/main.lock"
      )
      yield* sync
      assert.strictEqual(yield* runIn(sandbox, "git status --porcelain"), "")
    }).pipe(Effect.scoped, Effect.provide(world))
  )

  it.live("continues in a sandbox that was booted from a snapshot", () =>
    Effect.gen(function* () {
      const { host, repo, sandbox, sync } = yield* begun
      yield* runIn(sandbox, "echo 1 > file")
      yield* sync
      const provider = yield* SandboxProvider
      const { id } = yield* provider.snapshot(sandbox)
      const copy = SandboxName.make(`${sandbox}copy`)
      yield* provider.create({ name: copy, from: Option.some(id), lifetime: Duration.minutes(5) })
      assert.strictEqual(yield* runIn(copy, "cat file; echo 2 > second"), "1\n")
      yield* (yield* Checkouts).sync(copy, repo, options)
      const { entries } = Option.getOrThrow(yield* host.tree(repo, null))
      assert.deepStrictEqual(
        entries.map(({ path }) => path),
        ["file", "second"]
      )
    }).pipe(Effect.scoped, Effect.provide(world))
  )
})

/**
 * A sandbox from a snapshot of an older version, whose setups had the working tree in the home directory. All files are in
 * a lower layer.
 */
const older = Effect.gen(function* () {
  const { host, repo, sandbox } = yield* begun
  yield* runIn(
    sandbox,
    `mkdir -p .codex .claude src .config/gh workspace; echo key | tee .codex/auth.json > .claude/.credentials.json
     printf '[user]\\n\\tname = Ada\\n' > .gitconfig; echo rc > .bashrc; echo 1 > src/main; ln -s src/main link; echo 1 > workspace/own
     git init -q -b main; : > .git/castellan.lock; git add -A
     git -c user.name='${author.name}' -c user.email=${author.email} commit -q -m 'Update sandbox files'
     git update-ref refs/castellan/theirs HEAD; git bundle create -q /tmp/bundle main
     echo key > .config/gh/hosts.yml; echo 2 > new; echo 2 > src/main`,
    "."
  )
  const bundle = (yield* Sandboxes).readFile(sandbox, SandboxPath.make("/tmp/bundle"))
  yield* host.push(repo, firstBranch, bundle)
  const { id } = yield* (yield* SandboxProvider).snapshot(sandbox)
  const copy = SandboxName.make(`${sandbox}copy`)
  yield* (yield* SandboxProvider).create({ name: copy, from: Option.some(id), lifetime: Duration.minutes(5) })
  return { host, repo, sandbox: copy }
})

/** Prints the first lines of the user's own files in the home directory. */
const own = "head -qn 1 .codex/auth.json .claude/.credentials.json .config/gh/hosts.yml .bashrc; git config user.name"

describe("An environment of an older version", () => {
  it.live("continues in the workspace and removes credentials that its setup committed", () =>
    Effect.gen(function* () {
      const { host, repo, sandbox } = yield* older
      const leaked = RepoPath.make(".codex/auth.json")
      assert.strictEqual(Buffer.from(yield* host.readFile(repo, leaked)).toString(), "key\n")
      const checkouts = yield* Checkouts
      yield* checkouts.sync(sandbox, repo, options)
      const { entries } = Option.getOrThrow(yield* host.tree(repo, null))
      const paths = ["link", "new", "src", "src/main", "workspace", "workspace/own"]
      assert.deepStrictEqual(
        entries.map(({ path }) => path),
        paths
      )
      assert.strictEqual((yield* Effect.flip(host.readFile(repo, leaked)))._tag, "RepoFileNotFound")
      assert.strictEqual(yield* runIn(sandbox, own, "."), "key\nkey\nkey\nrc\nAda\n")
      assert.strictEqual(yield* runIn(sandbox, "cat link new workspace/own; git status --porcelain"), "2\n2\n1\n")
      // After the snapshot has expired, the environment is created again from the repository.
      const { sandbox: fresh } = yield* begun
      yield* checkouts.sync(fresh, repo, options)
      assert.strictEqual(yield* runIn(fresh, "ls -A | tr '\\n' ' '"), ".git link new src workspace ")
    }).pipe(Effect.scoped, Effect.provide(world))
  )

  it.live("removes committed credentials also if its snapshot expired before the next setup", () =>
    Effect.gen(function* () {
      const { host, repo } = yield* older
      const { sandbox: fresh } = yield* begun
      yield* (yield* Checkouts).sync(fresh, repo, options)
      const { entries } = Option.getOrThrow(yield* host.tree(repo, null))
      assert.notInclude(entries.map(({ path }) => path).join(), "auth")
      assert.strictEqual(yield* runIn(fresh, "cat src/main; ls -A .."), "1\nworkspace\n")
    }).pipe(Effect.scoped, Effect.provide(world))
  )
})

describe("A session of an older version", () => {
  it.live("moves the repository's files to the workspace and leaves the user's own files in place", () =>
    Effect.gen(function* () {
      const { sandbox } = yield* older
      const checkouts = yield* Checkouts
      for (let again = 0; again < 2; again++) yield* checkouts.relocate(sandbox)
      const status = yield* runIn(sandbox, "cat link; git status --porcelain; ls -A | tr '\\n' ' '")
      const files = ".bashrc .claude .codex .git .gitconfig link new src workspace "
      assert.strictEqual(status, `2\n M src/main\n?? new\n${files}`)
      assert.strictEqual(yield* runIn(sandbox, "ls -A; cat .config/gh/hosts.yml", "."), ".config\nworkspace\nkey\n")
    }).pipe(Effect.scoped, Effect.provide(world))
  )
})

describe("Git configuration planted in a sandbox", () => {
  it.live("runs no filter, driver, hook or helper on the host and contacts no other remote", () =>
    Effect.gen(function* () {
      const { host, repo, sandbox, sync } = yield* begun
      const traps = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "castellan-trap-"))),
        (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
      )
      chmodSync(traps, 0o777)
      const trap = (name: string) => `sh -c 'echo caught > ${traps}/${name}; cat'`
      const settings = [
        `filter.evil.clean ${trap("clean")}`,
        `filter.evil.smudge ${trap("smudge")}`,
        `filter.evil.required false`,
        `diff.evil.textconv ${trap("textconv")}`,
        `diff.external ${trap("diff")}`,
        `merge.evil.driver ${trap("merge")}`,
        `core.fsmonitor ${trap("fsmonitor")}`,
        `core.sshCommand ${trap("ssh")}`,
        `core.gitProxy ${trap("proxy")}`,
        `core.pager ${trap("pager")}`,
        `credential.helper !${trap("credential")}`,
        `uploadpack.packObjectsHook ${trap("pack")}`,
        `receive.procReceiveRefs refs/`,
        `protocol.ext.allow always`,
        `gpg.program ${trap("gpg")}`
      ]
      yield* runIn(
        sandbox,
        `mkdir -p '${traps}'; git init -q .
         cat > /tmp/settings <<'END'\n${settings.join("\n")}\nEND
         printf '[url "ext::sh -c echo%% caught%%>${traps}/url"]\\n\\tinsteadOf = /\\n' >> .git/config
         while read -r key value; do git config "$key" "$value"; done < /tmp/settings
         printf '* filter=evil diff=evil merge=evil\\n' | tee .gitattributes .git/info/attributes
         printf '[submodule "sub"]\\n\\tpath = sub\\n\\turl = https://example.com/sub\\n' > .gitmodules
         mkdir -p .git/hooks hooks
         for hook in pre-commit post-commit pre-receive post-receive update reference-transaction post-index-change \\
           post-checkout pre-push post-merge push-to-checkout proc-receive pre-auto-gc; do
           printf '#!/bin/sh\\necho caught > ${traps}/%s\\n' "$hook" > ".git/hooks/$hook"
           chmod +x ".git/hooks/$hook"; cp ".git/hooks/$hook" hooks/
         done
         cp .git/config config; mkdir -p objects refs; echo 'ref: refs/heads/main' > HEAD; : > objects/x; : > refs/x
         printf text > file`
      )
      yield* sync
      const { entries } = Option.getOrThrow(yield* host.tree(repo, null))
      assert.includeMembers(
        entries.map(({ path }) => path),
        [".gitattributes", ".gitmodules", "HEAD", "config", "file", "hooks/pre-receive", "objects/x", "refs/x"]
      )
      assert.strictEqual(Buffer.from(yield* host.readFile(repo, RepoPath.make("file"))).toString(), "text")
      yield* runIn(sandbox, "rm -f .git/hooks/*; printf more > file")
      yield* sync
      yield* Effect.scoped(host.fetch(repo, null, [], "service"))
      assert.deepStrictEqual(readdirSync(traps), [])
      // The traps do fire inside the sandbox; otherwise this test would prove nothing.
      assert.include(yield* runIn(sandbox, `ls '${traps}'`), "clean")
    }).pipe(Effect.scoped, Effect.provide(world))
  )
})
