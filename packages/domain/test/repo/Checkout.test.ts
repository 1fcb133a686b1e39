/** The scripts that run inside a sandbox, with this host's git in a directory. */
import { allSaid, said, stages } from "@castellan/domain/repo/Checkout.ts"
import { CommitId, firstBranch } from "@castellan/domain/repo/Repo.ts"
import { assert, describe, it } from "@effect/vitest"
import { execFileSync } from "node:child_process"
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"

const author = { name: "Ada", email: "ada@example.com" }
const [one, two] = [CommitId.make("1".repeat(40)), CommitId.make("2".repeat(40))]

describe("A commit of a home directory", () => {
  it("has no caches, histories, credentials and installed packages, and everything else", () => {
    const directory = mkdtempSync(join(tmpdir(), "castellan-checkout-"))
    try {
      const hidden = ".cache/a .config/a .local/a .npm/a .ssh/id .gnupg/a .aws/credentials .docker/a"
        .concat(" .netrc .npmrc .pypirc .git-credentials .bash_history .node_repl_history")
        .concat(" node_modules/a/index.js src/node_modules/a/index.js")
        .split(" ")
      const kept = [".bashrc", "a", "src/.cache/a", "src/.npmrc", "src/main.ts"]
      for (const path of [...hidden, ...kept]) {
        mkdirSync(dirname(join(directory, path)), { recursive: true })
        writeFileSync(join(directory, path), path)
      }
      const env = { PATH: process.env["PATH"], HOME: "/nonexistent", GIT_CONFIG_NOSYSTEM: "1" }
      const run = (command: string, args: ReadonlyArray<string>) =>
        execFileSync(command, args, { cwd: directory, env, encoding: "utf8" })
      const { args, command } = stages.record({ branch: firstBranch, message: "the files", author, title: "a" })
      run(command, args)
      assert.deepStrictEqual(run("git", ["ls-tree", "-r", "--name-only", firstBranch]).trim().split("\n"), kept)
      const log = run("git", ["log", "--format=%an %ae %cn %ce %s"]).trim()
      assert.strictEqual(log, "Ada ada@example.com Ada ada@example.com the files")
    } finally {
      rmSync(directory, { recursive: true, force: true })
    }
  })
})

describe("What a stage printed", () => {
  it("names each commit once, in order, after its word at the beginning of a line", () => {
    const printed = `known ${two}\nahead ${one}\nknown ${two}\nnot known ${one}\nknown ${one}\nknown x\n`
    assert.deepStrictEqual<ReadonlyArray<string>>(allSaid(printed, "known"), [two, one])
    assert.deepStrictEqual<ReadonlyArray<string>>(allSaid(printed, "ahead"), [one])
    assert.deepStrictEqual(allSaid(printed, "same"), [])
    assert.strictEqual(said(printed, "known"), two)
    assert.isNull(said(printed, "same"))
  })
})
