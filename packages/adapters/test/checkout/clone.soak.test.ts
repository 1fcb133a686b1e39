/** Clones of public repositories into workspaces, with real git in real sandboxes. */
import { type Author, workspace } from "@castellan/domain/repo/Checkout.ts"
import { Checkouts } from "@castellan/domain/repo/Checkouts.ts"
import { BranchName, type CommitId, firstBranch, Repo, RepoName, RepoOwner } from "@castellan/domain/repo/Repo.ts"
import type { ReadAs } from "@castellan/domain/repo/ReadAs.ts"
import { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import * as RepoUrl from "@castellan/domain/repo/RepoUrl.ts"
import { Command } from "@castellan/domain/sandbox/Command.ts"
import { Sandboxes } from "@castellan/domain/sandbox/Sandboxes.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import type { SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import type { Content } from "@castellan/testkit/contracts/RepoHost/Author.ts"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Layer, Option, Stream } from "effect"
import { SecureRandom } from "effect/crypto"
import { author as newAuthor } from "../git/author.ts"
import { publish } from "../git/publish.ts"
import { besideOthers } from "../git-local/temporaryRepos.ts"
import { localProvider as provider } from "../local/temporary.ts"

/** Sizes in bytes of the bundles that were sent into sandboxes. */
const sent: Array<number> = []

const counting = Layer.effect(
  RepoHost,
  Effect.map(RepoHost, (real) => ({
    ...real,
    fetch: (repo: Repo, branch: BranchName | null, have: ReadonlyArray<CommitId>, readAs: ReadAs) =>
      Effect.map(
        real.fetch(repo, branch, have, readAs),
        Option.map((found) => {
          const at = sent.push(0) - 1
          const counted = Stream.map((piece: Uint8Array) => {
            sent[at]! += piece.length
            return piece
          })
          return { ...found, bundle: Option.map(found.bundle, counted) }
        })
      )
  }))
)

const world = Checkouts.layer.pipe(
  Layer.provideMerge(Sandboxes.layer),
  Layer.provideMerge(counting),
  Layer.provideMerge(Layer.mergeAll(provider(), besideOthers)),
  Layer.provide(SecureRandom.layerWebCrypto)
)

const begun = Effect.fnUntraced(function* (from?: SnapshotId) {
  const sandbox = SandboxName.make(`sbx_${SecureRandom.uuidV4Unsafe().replaceAll("-", "")}`)
  const lifetime = Duration.minutes(5)
  yield* (yield* SandboxProvider).create({ name: sandbox, from: Option.fromUndefinedOr(from), lifetime })
  return sandbox
})

/** The output of a shell command in the sandbox's workspace, or in `directory`. */
const runIn = Effect.fnUntraced(function* (sandbox: SandboxName, script: string, directory: string = workspace) {
  const there = 'mkdir -p "$0"; cd "$0"; '
  const command = new Command({ command: "sh", args: ["-ec", there + script, directory], cwd: null, env: {} })
  const { end, stderr, stdout } = yield* (yield* Sandboxes).run(sandbox, command, Duration.minutes(1))
  assert.strictEqual(end.exitCode, 0, `${script}\n${stderr}`)
  return stdout
})

/** A public repository without commits, and an author. */
const published = Effect.gen(function* () {
  const author = yield* newAuthor
  const name = RepoName.make(`t-${SecureRandom.uuidV4Unsafe()}`)
  const repo = new Repo({ owner: RepoOwner.make("somebody"), name })
  const url = RepoUrl.urlOf((yield* RepoHost).supports.publicUrl, repo)
  const checkouts = yield* Checkouts
  return {
    url,
    put: Effect.fnUntraced(function* (
      files: Readonly<Record<string, Content>>,
      { branch = "main", parents = [] }: { readonly branch?: string; readonly parents?: ReadonlyArray<CommitId> } = {}
    ) {
      const commit = yield* author.commit(files, parents)
      yield* publish(repo, yield* author.bundle({ [branch]: commit }))
      return commit
    }),
    clone: (sandbox: SandboxName, branch: string | null = null, author?: Author) =>
      checkouts.clone(sandbox, repo, {
        branch: branch === null ? null : BranchName.make(branch),
        readAs: "anonymous",
        url,
        ...(author === undefined ? {} : { author })
      })
  }
})

const many = (count: number, text: string) =>
  Object.fromEntries(Array.from({ length: count }, (_, n) => [`many/${n % 50}/file-${n}`, `${text} ${n}\n`]))

const clean = (branch: string) =>
  `On branch ${branch}\nYour branch is up to date with 'origin/${branch}'.\n\nnothing to commit, working tree clean\n`

describe("A clone into a new sandbox", () => {
  it.live("has every file of the branch and looks like an ordinary clone to git", () =>
    Effect.gen(function* () {
      const { clone, put, url } = yield* published
      const pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
      const submodule = "0123456789abcdef0123456789abcdef01234567" as CommitId
      const files = {
        ...many(2000, "text"),
        "grüße 字": "odd",
        link: { link: "grüße 字" },
        ".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n",
        "large.bin": pointer,
        ".gitmodules": '[submodule "sub"]\n\tpath = sub\n\turl = https://example.com/sub\n',
        sub: { submodule }
      }
      const commit = yield* put(files)
      const sandbox = yield* begun()
      // Configures a large-file filter whose program is missing, and recursion into submodules.
      yield* runIn(
        sandbox,
        "git init -q; git config filter.lfs.required true; git config filter.lfs.process nothing-of-that-name; git config submodule.recurse true"
      )
      assert.deepStrictEqual(yield* clone(sandbox), { branch: firstBranch, commit })
      const files2 =
        "git ls-files many | wc -l; find many -type f | wc -l; cat many/49/file-1999; cat link; ls sub; cat large.bin"
      assert.strictEqual(
        (yield* runIn(sandbox, files2)).replaceAll(" ", ""),
        `2000\n2000\ntext1999\nodd${pointer}`.replaceAll(" ", "")
      )
      const lfs = "git -c filter.lfs.process= -c filter.lfs.required=false"
      assert.strictEqual(yield* runIn(sandbox, `${lfs} status`), clean("main"))
      assert.strictEqual(
        yield* runIn(sandbox, "git remote get-url origin; git rev-parse @{upstream}"),
        `${url}\n${commit}\n`
      )
      const left =
        "ls .git | grep -v lock | grep -e castellan -e HEAD -e bundle; git for-each-ref refs/castellan/cloning"
      assert.strictEqual(yield* runIn(sandbox, left), "HEAD\n")
      // Git reads files again that were written in the same second as its index, or later.
      yield* runIn(sandbox, "touch -d 2037-01-01 large.bin")
      assert.deepStrictEqual(yield* clone(sandbox), { branch: firstBranch, commit })
      assert.strictEqual(yield* runIn(sandbox, `${lfs} status`), clean("main"))
    }).pipe(Effect.scoped, Effect.provide(world))
  )

  it.live("keeps an untracked file at a path of the branch, even if ignored, and reports it", () =>
    Effect.gen(function* () {
      const { clone, put } = yield* published
      const commit = yield* put({ a: "1", ".npmrc": "theirs", "d/x": "1" })
      for (const [path, obstacle] of [
        ["a", "a"],
        [".npmrc", ".npmrc"],
        ["d", "d"]
      ] as const) {
        const sandbox = yield* begun()
        yield* runIn(sandbox, `printf precious > ${path}`)
        assert.deepInclude(yield* Effect.flip(clone(sandbox)), {
          _tag: "CheckoutFailed",
          reason: `A file in the sandbox conflicts with a file of the repository: ${obstacle}`
        })
        assert.strictEqual(
          yield* runIn(sandbox, `cat ${path}; ls -A | grep -vx -e .git -e ${path} || true`),
          "precious"
        )
        yield* runIn(sandbox, `rm ${path}`)
        assert.strictEqual((yield* clone(sandbox)).commit, commit)
        assert.strictEqual(yield* runIn(sandbox, "git status"), clean("main"))
      }
    }).pipe(Effect.scoped, Effect.provide(world))
  )

  it.live("sets the account as git author, unless the user configured another", () =>
    Effect.gen(function* () {
      const { clone, put } = yield* published
      const [ada, bob]: ReadonlyArray<Author> = [
        { name: "Ada 'the' $(first) \"L\" Lovelace", email: "ada@example.com" },
        { name: "Bob", email: "bob@example.com" }
      ]
      yield* put({ a: "1" })
      const sandbox = yield* begun()
      yield* clone(sandbox, null, ada)
      const commit = "echo 2 > a; git commit -q -a -m two; git log -1 --format='%an <%ae> %cn <%ce>'"
      const said = `${ada!.name} <ada@example.com>`
      assert.strictEqual(yield* runIn(sandbox, commit), `${said} ${said}\n`)
      yield* clone(sandbox, null, bob)
      assert.strictEqual(yield* runIn(sandbox, "git config user.name"), `${ada!.name}\n`)
      // A shared image has no author; each sandbox booted from it sets its own.
      const image = yield* begun()
      yield* clone(image)
      assert.strictEqual(yield* runIn(image, "git config --get-regexp 'user[.].*' || echo nobody"), "nobody\n")
      const { id } = yield* (yield* SandboxProvider).snapshot(image)
      const next = yield* begun(id)
      yield* clone(next, null, bob)
      assert.strictEqual(yield* runIn(next, commit), "Bob <bob@example.com> Bob <bob@example.com>\n")
    }).pipe(Effect.scoped, Effect.provide(world))
  )

  it.live("of an empty repository has an unborn branch", () =>
    Effect.gen(function* () {
      const { clone, put, url } = yield* published
      const sandbox = yield* begun()
      const commit = yield* put({ a: "1" })
      yield* put({ a: "1" }, { branch: "only", parents: [commit] })
      // A prefix or suffix of a branch's name is not a branch.
      for (const branch of ["onl", "nly"]) {
        const reason = "The repository has no such branch"
        assert.deepInclude(yield* Effect.flip(clone(sandbox, branch)), { _tag: "CheckoutFailed", reason })
      }
      const host = yield* RepoHost
      const repo = new Repo({ owner: host.supports.owner, name: RepoName.make("empty") })
      yield* host.ensure(repo)
      const other = yield* begun()
      const checkouts = yield* Checkouts
      for (let again = 0; again < 2; again++) {
        const author = { name: "Ada", email: "ada@example.com" }
        const cloned = yield* checkouts.clone(other, repo, { branch: null, readAs: "service", url, author })
        assert.deepStrictEqual(cloned, { branch: firstBranch, commit: null })
      }
      assert.strictEqual(
        yield* runIn(other, "git symbolic-ref HEAD; git remote get-url origin"),
        `refs/heads/main\n${url}\n`
      )
      assert.strictEqual(yield* runIn(other, "git commit -q --allow-empty -m one; git log --format=%an"), "Ada\n")
    }).pipe(Effect.scoped, Effect.provide(world))
  )
})

describe("A clone into a sandbox with an older clone", () => {
  const older = Effect.gen(function* () {
    const one = yield* published
    const root = yield* one.put(many(2000, "text"))
    const files = { ...many(2000, "text"), edited: "1\n", gone: "1\n", ".gitignore": "/built/\n" }
    const first = yield* one.put(files, { parents: [root] })
    const sandbox = yield* begun()
    yield* one.clone(sandbox)
    yield* runIn(
      sandbox,
      "echo 'by a setup' | tee edited > made; git branch deep; git branch other/older; mkdir built node_modules; echo x | tee built/x > node_modules/x; git add made"
    )
    const { id } = yield* (yield* SandboxProvider).snapshot(sandbox)
    return { ...one, root, first, id }
  })

  it.live("fast-forwards with only the new objects and keeps untracked files of the setup", () =>
    Effect.gen(function* () {
      const { clone, first, id, put } = yield* older
      const whole = sent.at(-1)!
      const files = { ...many(2000, "text"), edited: "2\n", new: "2\n", ".gitignore": "/built/\n" }
      const second = yield* put(files, { parents: [first] })
      const sandbox = yield* begun(id)
      assert.deepStrictEqual(yield* clone(sandbox), { branch: firstBranch, commit: second })
      assert.isBelow(sent.at(-1)!, whole / 10)
      const seen = "cat edited new made built/x node_modules/x; [ ! -e gone ]; git status --porcelain"
      assert.strictEqual(yield* runIn(sandbox, seen), "2\n2\nby a setup\nx\nx\n?? made\n")
    }).pipe(Effect.scoped, Effect.provide(world))
  )

  it.live("switches to another branch with only the new objects", () =>
    Effect.gen(function* () {
      const { clone, id, put, root } = yield* older
      const whole = sent.at(-1)!
      for (const branch of ["other", "deep/er"]) {
        const commit = yield* put({ ...many(2000, "text"), aside: `${branch}\n` }, { branch, parents: [root] })
        const sandbox = yield* begun(id)
        assert.deepStrictEqual(yield* clone(sandbox, branch), { branch: BranchName.make(branch), commit })
        assert.isBelow(sent.at(-1)!, whole / 10)
        const seen = "git status -sb; cat aside; [ ! -e edited ] && git rev-parse refs/heads/main^ main@{upstream}^"
        const first = `## ${branch}...origin/${branch}\n?? built/\n?? made\n${branch}\n`
        assert.strictEqual(yield* runIn(sandbox, seen), `${first}${root}\n${root}\n`)
      }
    }).pipe(Effect.scoped, Effect.provide(world))
  )
})

describe("An interrupted clone", () => {
  it.live("is completed by the next one, which deletes no file of the user", () =>
    Effect.gen(function* () {
      const { clone, put } = yield* published
      const first = yield* put({ ...many(1000, "old"), gone: "1" })
      const sandbox = yield* begun()
      yield* clone(sandbox)
      yield* runIn(sandbox, "echo mine > mine")
      const second = yield* put({ ...many(2000, "new"), more: "1" }, { parents: [first] })
      for (const delay of [20, 60, 120, 180, 250, 350, 500]) {
        const fiber = yield* Effect.forkChild(clone(sandbox))
        yield* Effect.sleep(delay)
        yield* Fiber.interrupt(fiber)
      }
      assert.strictEqual((yield* clone(sandbox)).commit, second)
      assert.strictEqual(
        yield* runIn(sandbox, "git status --porcelain; cat more many/30/file-1030"),
        "?? mine\n1new 1030\n"
      )
      // The state after a kill: some files written, one of them half, and git's old index.
      yield* runIn(
        sandbox,
        `git reset -q --hard ${first}; git update-ref refs/castellan/cloning ${second}
         mkdir -p many/30; printf ha > many/30/file-1030; printf half > more; rm gone; : > .git/index.lock`
      )
      const third = yield* put({ ...many(2000, "new"), more: "2", most: "3" }, { parents: [second] })
      assert.strictEqual((yield* clone(sandbox)).commit, third)
      assert.strictEqual(
        yield* runIn(sandbox, "git status --porcelain; cat mine more most many/30/file-1030"),
        "?? mine\nmine\n23new 1030\n"
      )
    }).pipe(Effect.scoped, Effect.provide(world))
  )
})
