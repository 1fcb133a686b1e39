import * as Git from "@castellan/adapters/git/Git.ts"
import * as LocalRepos from "@castellan/adapters/git-local/LocalRepos.ts"
import { BranchName, CommitId, firstBranch, Repo, RepoName, RepoOwner } from "@castellan/domain/repo/Repo.ts"
import { RepoPath } from "@castellan/domain/repo/FileTree.ts"
import { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import type { NewAuthor } from "@castellan/testkit/contracts/RepoHost/Author.ts"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Fiber, Layer, Option, Stream } from "effect"
import { createHash } from "node:crypto"
import { chmodSync, existsSync, mkdirSync, readdirSync, utimesSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { author, git } from "../git/author.ts"
import { directory } from "./temporaryRepos.ts"

type Author = Effect.Success<NewAuthor>

const owner = RepoOwner.make("castellan")
const repo = new Repo({ owner, name: RepoName.make("thing") })

/** Opens the repositories of a directory as a starting process does. */
const opened = (directory: string) =>
  Effect.map(Layer.build(LocalRepos.layer({ directory })), (context) => Context.get(context, RepoHost))

const pathOf = (directory: string) => join(directory, "castellan", "thing.git")

const pushed = Effect.fnUntraced(function* (host: RepoHost["Service"], author: Author, text: string, on?: CommitId) {
  const commit = yield* author.commit({ file: text }, on === undefined ? [] : [on])
  const bundle = yield* author.bundle({ main: commit })
  yield* host.push(repo, firstBranch, Stream.make(bundle))
  return commit
})

const standing = (host: RepoHost["Service"]) =>
  Effect.scoped(Effect.map(host.fetch(repo, null, [], "service"), (found) => Option.getOrUndefined(found)?.commit))

const longAgo = (path: string) => utimesSync(path, 1_000_000_000, 1_000_000_000)

/** A repository with one commit, and the commit's author. */
const given = Effect.gen(function* () {
  const at = yield* directory
  const host = yield* opened(at)
  yield* host.ensure(repo)
  const writer = yield* author
  const first = yield* pushed(host, writer, "1")
  return { at, host, path: pathOf(at), author: writer, first }
})

/** The files of a repository's objects. */
const objectsOf = (path: string) =>
  readdirSync(join(path, "objects"), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ name }) => name)
    .toSorted()

describe("Repositories in a directory", () => {
  it.live("ignore the leftovers of killed processes and remove them later", () =>
    Effect.gen(function* () {
      const { at, author, first, path } = yield* given
      for (const left of [".making/old", ".making/young", ".trash/any"]) {
        mkdirSync(join(at, left, "objects"), { recursive: true })
      }
      longAgo(join(at, ".making/old"))
      // The leftovers of a killed push in the repository.
      for (const lock of ["refs/heads/main.lock", "packed-refs.lock"]) {
        writeFileSync(join(path, lock), "")
        longAgo(join(path, lock))
      }
      writeFileSync(join(path, "objects/pack/tmp_pack_abcdef"), "PACK")
      writeFileSync(join(path, "objects/tmp_obj_abcdef"), "")
      const host = yield* opened(at)
      assert.deepStrictEqual(readdirSync(join(at, ".making")), ["young"])
      assert.strictEqual(yield* standing(host), first)
      const second = yield* pushed(host, author, "2", first)
      assert.strictEqual(yield* standing(host), second)
      yield* Effect.sleep("200 millis")
      assert.deepStrictEqual(readdirSync(join(at, ".trash")), [])
    }).pipe(Effect.scoped)
  )

  it.live("keep no objects of a rejected push", () =>
    Effect.gen(function* () {
      const { author, host, path } = yield* given
      const before = objectsOf(path)
      const unrelated = yield* author.commit({ file: "unrelated" })
      const bundle = yield* author.bundle({ main: unrelated })
      const rejected = yield* Effect.flip(host.push(repo, firstBranch, Stream.make(bundle)))
      assert.strictEqual(rejected._tag, "PushRejected")
      assert.deepStrictEqual(objectsOf(path), before)
    }).pipe(Effect.scoped)
  )

  it.live("are packed when they have many loose objects", () =>
    Effect.gen(function* () {
      const { author, first, host, path } = yield* given
      // Git estimates the number of objects from one directory of 256.
      for (let n = 0, found = 0; found < 12; n++) {
        const id = createHash("sha1")
          .update(`blob 5\0${10_000 + n}`)
          .digest("hex")
        if (!id.startsWith("17")) continue
        found++
        git(path, ["hash-object", "-w", "--stdin"], Buffer.from(`${10_000 + n}`))
      }
      const second = yield* pushed(host, author, "2", first)
      while (!objectsOf(path).some((name) => name.endsWith(".pack"))) yield* Effect.sleep("20 millis")
      assert.strictEqual(yield* standing(host), second)
    }).pipe(Effect.scoped)
  )

  it.live("keep working after a push is interrupted at any point", () =>
    Effect.gen(function* () {
      const { author, first, host } = yield* given
      const commit = yield* author.commit({ file: "2" }, [first])
      const bundle = yield* author.bundle({ main: commit })
      for (const millis of [5, 15, 25, 35, 45, 60, 80]) {
        const fiber = yield* Effect.forkChild(host.push(repo, firstBranch, Stream.make(bundle)))
        yield* Effect.sleep(millis)
        yield* Fiber.interrupt(fiber)
        assert.include([first, commit], yield* standing(host))
      }
      yield* host.push(repo, firstBranch, Stream.make(bundle))
      assert.strictEqual(yield* standing(host), commit)
    }).pipe(Effect.scoped)
  )

  it.live("can be used by several processes at the same time", () =>
    Effect.gen(function* () {
      const at = yield* directory
      const [one, two] = yield* Effect.all([opened(at), opened(at)])
      yield* Effect.all([one.ensure(repo), two.ensure(repo)], { concurrency: 2 })
      const [a, b] = [yield* author, yield* author]
      const results = yield* Effect.all([Effect.result(pushed(one, a, "a")), Effect.result(pushed(two, b, "b"))], {
        concurrency: 2
      })
      assert.deepStrictEqual(results.map(({ _tag }) => _tag).toSorted(), ["Failure", "Success"])
      assert.strictEqual(yield* standing(one), yield* standing(two))
      assert.deepStrictEqual(readdirSync(join(at, ".making")), [])
    }).pipe(Effect.scoped)
  )

  it.live("stay below their directory under any name", () =>
    Effect.gen(function* () {
      const at = yield* directory
      const host = yield* opened(join(at, "repos"))
      for (const name of ["...", "-option", "--upload-pack", "a.GIT", ".making", "HEAD"]) {
        yield* host.ensure(new Repo({ owner, name: RepoName.make(name) }))
      }
      assert.deepStrictEqual(readdirSync(at), ["repos"])
      assert.deepStrictEqual(readdirSync(join(at, "repos")).toSorted(), [".making", ".trash", "castellan"])
    }).pipe(Effect.scoped)
  )

  it.live("run no hooks", () =>
    Effect.gen(function* () {
      const { at, author, first, host, path } = yield* given
      mkdirSync(join(path, "hooks"), { recursive: true })
      for (const hook of [
        "pre-receive",
        "update",
        "post-receive",
        "post-update",
        "reference-transaction",
        "pre-push"
      ]) {
        writeFileSync(join(path, "hooks", hook), `#!/bin/sh\ntouch '${at}/${hook}'\nexit 1\n`)
        chmodSync(join(path, "hooks", hook), 0o755)
      }
      const second = yield* pushed(host, author, "2", first)
      assert.strictEqual(yield* standing(host), second)
      assert.deepStrictEqual(readdirSync(at).toSorted(), [".making", ".trash", "castellan"])
    }).pipe(Effect.scoped)
  )

  it.live("run no program that a repository's configuration names", () =>
    Effect.gen(function* () {
      const { at, author, first, host, path } = yield* given
      const trap = (name: string) => `sh -c 'touch ${at}/caught-${name}; cat'`
      const included = join(at, "castellan", "included")
      const named = {
        "core.fsmonitor": trap("fsmonitor"),
        "core.sshCommand": trap("ssh"),
        "core.gitProxy": trap("proxy"),
        "core.pager": trap("pager"),
        "core.editor": trap("editor"),
        "core.askPass": trap("askPass"),
        "core.alternateRefsCommand": trap("alternates"),
        "core.hooksPath": join(at, "castellan"),
        "credential.helper": `!${trap("credential")}`,
        "diff.external": trap("diff"),
        "diff.evil.textconv": trap("textconv"),
        "filter.evil.clean": trap("clean"),
        "filter.evil.smudge": trap("smudge"),
        "filter.evil.process": trap("process"),
        "merge.evil.driver": trap("merge"),
        "gpg.program": trap("gpg"),
        "uploadpack.packObjectsHook": trap("pack"),
        "protocol.ext.allow": "always",
        "remote.origin.url": `ext::${trap("remote")}`,
        "remote.origin.promisor": "true",
        "remote.origin.uploadpack": trap("uploadpack"),
        "gc.recentObjectsHook": trap("gc"),
        "include.path": included
      }
      writeFileSync(included, `[core]\n\tfsmonitor = ${trap("included")}\n`)
      for (const [key, value] of Object.entries(named))
        git(path, ["config", "--file", join(path, "config"), key, value])
      mkdirSync(join(path, "info"), { recursive: true })
      writeFileSync(join(path, "info", "attributes"), "* filter=evil diff=evil merge=evil\n")
      const second = yield* pushed(host, author, "2", first)
      assert.strictEqual(yield* standing(host), second)
      assert.isTrue(Option.isSome(yield* host.tree(repo, null)))
      assert.strictEqual(Buffer.from(yield* host.readFile(repo, RepoPath.make("file"))).toString(), "2")
      yield* host.ensure(repo)
      assert.isTrue(Option.isSome(yield* host.find(repo)))
      // Another place is put in place of this one; and a commit that is not there is not fetched from anywhere.
      writeFileSync(included, `[url "ext::touch ${at}/caught-url #"]\n\tinsteadOf = /\n\tinsteadOf = file\n`)
      yield* Effect.exit(Effect.scoped(host.fetch(repo, null, [], "service")))
      yield* Effect.exit(pushed(host, author, "3", second))
      const missing = "0123456789abcdef0123456789abcdef01234567"
      writeFileSync(join(path, "refs", "heads", "main"), `${missing}\n`)
      yield* Effect.exit(host.tree(repo, null))
      yield* Effect.exit(host.readFile(repo, RepoPath.make("file")))
      yield* Effect.exit(Effect.scoped(host.fetch(repo, null, [], "service")))
      yield* host.remove(repo)
      assert.deepStrictEqual(readdirSync(at).toSorted(), [".making", ".trash", "castellan"])
    }).pipe(Effect.scoped)
  )

  it.live("ignore the git configuration of the user and the environment", () =>
    Effect.gen(function* () {
      const home = yield* directory
      const trap = `touch ${home}/caught`
      writeFileSync(join(home, ".gitconfig"), "[core]\n\thooksPath = /dev/null\n\tbroken\n[transfer")
      const changed = {
        HOME: home,
        XDG_CONFIG_HOME: home,
        GIT_DIR: "/nowhere",
        GIT_CONFIG: join(home, ".gitconfig"),
        GIT_CONFIG_COUNT: "x",
        GIT_CONFIG_PARAMETERS: "'broken",
        GIT_CONFIG_SYSTEM: join(home, ".gitconfig"),
        GIT_OBJECT_DIRECTORY: "/nowhere",
        GIT_EXEC_PATH: home,
        GIT_TEMPLATE_DIR: home,
        GIT_TRACE: join(home, "caught"),
        GIT_SSH_COMMAND: trap,
        GIT_PROXY_COMMAND: trap,
        GIT_EXTERNAL_DIFF: trap,
        GIT_PAGER: trap,
        GIT_EDITOR: trap,
        GIT_ASKPASS: trap
      }
      const before = { ...process.env }
      yield* Effect.acquireRelease(
        Effect.sync(() => Object.assign(process.env, changed)),
        () =>
          Effect.sync(() => {
            for (const name of Object.keys(changed)) delete process.env[name]
            Object.assign(process.env, before)
          })
      )
      const { first, host } = yield* given
      assert.strictEqual(yield* standing(host), first)
      assert.notInclude(readdirSync(home), "caught")
    }).pipe(Effect.scoped)
  )

  it.live("fail to open with a message if the directory can't be used", () =>
    Effect.gen(function* () {
      const at = join(yield* directory, "file")
      writeFileSync(at, "")
      const error = yield* Effect.flip(opened(at))
      assert.strictEqual(error._tag, "LocalReposUnavailable")
      assert.include(error.message, at)
    }).pipe(Effect.scoped)
  )
})

/** A raw tree with names and modes that git would not write. */
const treeOf = (repository: string, entries: ReadonlyArray<readonly [mode: string, name: string, id: string]>) => {
  const raw = Buffer.concat(
    entries.flatMap(([mode, name, id]) => [Buffer.from(`${mode} ${name}\0`), Buffer.from(id, "hex")])
  )
  return git(repository, ["hash-object", "-t", "tree", "-w", "--literally", "--stdin"], raw).toString().trim()
}

describe("A hostile push", () => {
  /** Runs a function in a new repository and bundles its `main`. */
  const bundleOf = Effect.fnUntraced(function* (make: (repository: string) => string) {
    const at = yield* Git.workspace
    const repository = join(at, "repository.git")
    yield* Git.text(["init", "--bare", "--quiet", repository])
    const identity = "A <a@example.com> 1700000000 +0000"
    const tree = make(repository)
    const commit = git(
      repository,
      ["hash-object", "-t", "commit", "-w", "--literally", "--stdin"],
      Buffer.from(`tree ${tree}\nauthor ${identity}\ncommitter ${identity}\n\nhostile\n`)
    )
    git(repository, ["update-ref", "refs/heads/main", commit.toString().trim()])
    return git(repository, ["bundle", "create", "--quiet", "-", "refs/heads/main"])
  })

  const blob = (repository: string, text: string) =>
    git(repository, ["hash-object", "-w", "--stdin"], Buffer.from(text)).toString().trim()

  const empty = Effect.gen(function* () {
    const at = yield* directory
    const host = yield* opened(at)
    yield* host.ensure(repo)
    return { at, host, path: pathOf(at) }
  })

  const hostile: Record<string, (repository: string) => string> = {
    "a file called .git": (repository) => treeOf(repository, [["100644", ".git", blob(repository, "gitdir: /")]]),
    "a directory called .GIT": (repository) =>
      treeOf(repository, [["40000", ".GIT", treeOf(repository, [["100755", "config", blob(repository, "x")]])]]),
    "a directory called ..": (repository) =>
      treeOf(repository, [["40000", "..", treeOf(repository, [["100644", "file", blob(repository, "x")]])]]),
    "a name with a slash": (repository) => treeOf(repository, [["100644", "../../file", blob(repository, "x")]]),
    "a .gitmodules that is a link": (repository) =>
      treeOf(repository, [["120000", ".gitmodules", blob(repository, "/etc/passwd")]]),
    "a .gitmodules with an option in place of a URL": (repository) =>
      treeOf(repository, [
        ["100644", ".gitmodules", blob(repository, '[submodule "a"]\n\tpath = a\n\turl = --upload-pack=touch\n')]
      ]),
    "a name twice": (repository) =>
      treeOf(repository, [
        ["100644", "a", blob(repository, "1")],
        ["40000", "a", treeOf(repository, [["100644", "b", blob(repository, "2")]])]
      ])
  }

  for (const [what, make] of Object.entries(hostile)) {
    it.live(`is rejected with ${what} and leaves no objects`, () =>
      Effect.gen(function* () {
        const { host, path } = yield* empty
        const bundle = yield* bundleOf(make)
        const refused = yield* Effect.flip(host.push(repo, firstBranch, Stream.make(bundle)))
        assert.strictEqual(refused._tag, "BundleRefused")
        assert.isUndefined(yield* standing(host))
        assert.deepStrictEqual(objectsOf(path), [])
      }).pipe(Effect.scoped)
    )
  }

  it.live("does not follow a pointer to another repository in place of a bundle", () =>
    Effect.gen(function* () {
      const { host, path } = yield* given
      const mine = new Repo({ owner, name: RepoName.make("mine") })
      yield* host.ensure(mine)
      for (const pointer of [`gitdir: ${path}\n`, path, `file://${path}`]) {
        const refused = yield* Effect.flip(host.push(mine, firstBranch, Stream.make(Buffer.from(pointer))))
        assert.strictEqual(refused._tag, "BundleRefused")
      }
      assert.deepStrictEqual(Option.getOrThrow(yield* host.tree(mine, null)).entries, [])
    }).pipe(Effect.scoped)
  )

  it.live("updates no other reference, whatever the bundle calls its branches", () =>
    Effect.gen(function* () {
      const { at, author, first, host } = yield* given
      const second = yield* author.commit({ file: "2" }, [first])
      const bundle = yield* author.bundle({ main: second })
      const rest = bundle.subarray(bundle.indexOf(10) + 1)
      const names = ["../../../../escaped", "refs/heads/../../config", "refs/heads/a b", "--exec=x", "HEAD"]
      const header = `# v2 git bundle\n${names.map((name) => `${second} ${name}\n`).join("")}`
      yield* host.push(repo, firstBranch, Stream.make(Buffer.from(header), rest))
      assert.strictEqual(yield* standing(host), second)
      const refs = git(pathOf(at), ["for-each-ref", "--format=%(refname)"]).toString()
      assert.strictEqual(refs, "refs/heads/main\n")
      assert.isFalse(existsSync(join(at, "escaped")))
    }).pipe(Effect.scoped)
  )

  it.live("is rejected if its header lacks prerequisites", () =>
    Effect.gen(function* () {
      const { author, first, host, path } = yield* given
      const before = objectsOf(path)
      const missing = yield* author.commit({ file: "2" }, [first])
      const second = yield* author.commit({ file: "3" }, [missing])
      const bundle = Buffer.from(yield* author.bundle({ main: second }, [missing]))
      const pack = bundle.indexOf("PACK")
      const header = bundle
        .subarray(0, pack)
        .toString()
        .replace(/^-.*\n/m, "")
      const refused = yield* Effect.flip(
        host.push(repo, firstBranch, Stream.make(Buffer.from(header), bundle.subarray(pack)))
      )
      assert.strictEqual(refused._tag, "BundleRefused")
      assert.deepStrictEqual(objectsOf(path), before)
    }).pipe(Effect.scoped)
  )

  it.live("creates no branch from an object that is not a commit", () =>
    Effect.gen(function* () {
      const { host } = yield* empty
      const writer = yield* author
      const commit = yield* writer.commit({ file: "1" })
      const bundle = Buffer.from(yield* writer.bundle({ main: commit }))
      const ofBlob = "56a6051ca2b02b04ef92d5150c9ef600403cb1de"
      const forged = Buffer.concat([
        Buffer.from(bundle.subarray(0, 200).toString("latin1").split("PACK")[0]!.replace(commit, ofBlob), "latin1"),
        bundle.subarray(bundle.indexOf("PACK"))
      ])
      const refused = yield* Effect.flip(host.push(repo, firstBranch, Stream.make(forged)))
      assert.strictEqual(refused._tag, "BundleRefused")
    }).pipe(Effect.scoped)
  )

  it.live("is distinguished from old commits with harmless faults, which are accepted", () =>
    Effect.gen(function* () {
      const { host } = yield* empty
      const bundle = yield* bundleOf((repository) =>
        treeOf(repository, [["040000", "a", treeOf(repository, [["100644", "b", blob(repository, "1")]])]])
      )
      yield* host.push(repo, firstBranch, Stream.make(bundle))
      assert.strictEqual(Option.getOrThrow(yield* host.tree(repo, null)).entries.length, 2)
      assert.isTrue(Option.isNone(yield* Effect.scoped(host.fetch(repo, BranchName.make("mai"), [], "service"))))
    }).pipe(Effect.scoped)
  )
})
