/** Runs the scripts with this host's git in temporary directories. */
import {
  checkoutCommands,
  printedCommit,
  printedCommits,
  workspace,
  workspacePath
} from "@castellan/domain/repo/Checkout.ts"
import { CommitId, firstBranch } from "@castellan/domain/repo/Repo.ts"
import type { Command } from "@castellan/domain/sandbox/Command.ts"
import { assert, describe, it } from "@effect/vitest"
import { execFileSync, spawnSync } from "node:child_process"
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { basename, dirname, join } from "node:path"

const ada = { name: "Ada", email: "ada@example.com" }
const castellan = { name: "Castellan", email: "castellan@noreply.invalid" }
const [one, two] = [CommitId.make("1".repeat(40)), CommitId.make("2".repeat(40))]
const options = { branch: firstBranch, message: "the files", author: ada, title: "a" }

/** A temporary home directory. */
const inHome = (use: (home: Home) => void): void => {
  const directory = mkdtempSync(join(tmpdir(), "castellan-checkout-"))
  try {
    use(new Home(directory))
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

/** Valid content for the files that git parses. */
const contents: Readonly<Record<string, string>> = {
  ".gitconfig": "[http]\n\textraHeader = a token\n",
  ".gitignore": "/ignored\n/.env\n"
}

class Home {
  readonly directory: string

  constructor(directory: string) {
    this.directory = directory
  }

  private get spawned() {
    const env = { PATH: process.env["PATH"], HOME: this.directory, GIT_CONFIG_NOSYSTEM: "1" }
    return { cwd: this.directory, env, encoding: "utf8" } as const
  }

  write(...paths: ReadonlyArray<string>): void {
    for (const path of paths) {
      mkdirSync(dirname(join(this.directory, path)), { recursive: true })
      writeFileSync(join(this.directory, path), contents[basename(path)] ?? path)
    }
  }

  sh(script: string): string {
    return execFileSync("sh", ["-ec", script], this.spawned)
  }

  /** Runs a script, as `Checkouts` does. */
  run({ args, command }: Command) {
    return spawnSync(command, args, this.spawned)
  }

  done(command: Command): string {
    const { status, stderr, stdout } = this.run(command)
    assert.strictEqual(status, 0, stderr)
    return stdout
  }

  has(path: string): boolean {
    return existsSync(join(this.directory, path))
  }

  text(path: string): string {
    return readFileSync(join(this.directory, path), "utf8")
  }

  git(...args: ReadonlyArray<string>): string {
    return execFileSync("git", ["-C", workspace, ...args], this.spawned).trim()
  }

  /** The files of the branch. */
  get committed(): ReadonlyArray<string> {
    return this.git("ls-tree", "-r", "--full-tree", "--name-only", firstBranch).split("\n")
  }
}

describe("The commit script", () => {
  it("commits all files of the workspace, whatever their names, and none of the home directory", () => {
    inHome((home) => {
      const theirs = ".bashrc .config/app.yml .gitconfig .kube/notes .npmrc src/main.ts".split(" ")
      const agents =
        ".gitconfig .codex/auth.json .claude/.credentials.json .gemini/oauth_creds.json .kube/config .netrc"
          .concat(" .bashrc .config/gh/hosts.yml .unheard-of/token id.pem")
          .split(" ")
      home.write(...agents, ...theirs.map((path) => `${workspace}/${path}`), `${workspace}/node_modules/a/index.js`)
      home.done(checkoutCommands.commitAll(options))
      assert.deepStrictEqual(home.committed, theirs)
      assert.strictEqual(
        home.git("log", "--format=%an %ae %cn %ce %s"),
        "Ada ada@example.com Ada ada@example.com the files"
      )
      assert.isFalse(home.has(".git"))
    })
  })

  it("excludes the credential files of known agents and tools, unless they were added by hand", () => {
    inHome((home) => {
      const known = ".codex/auth.json .claude/.credentials.json .gemini/oauth_creds.json .kube/config .aws/credentials"
        .concat(
          " .config/gh/hosts.yml .docker/config.json .netrc .git-credentials .ssh/id_ed25519 sub/.codex/auth.json"
        )
        .split(" ")
      home.write(...known.map((path) => `${workspace}/${path}`), `${workspace}/.codex/config.toml`)
      home.done(checkoutCommands.commitAll(options))
      assert.deepStrictEqual(home.committed, [".codex/config.toml"])
      home.git("add", "-f", "sub/.codex/auth.json")
      home.done(checkoutCommands.commitAll(options))
      assert.deepStrictEqual(home.committed, [".codex/config.toml", "sub/.codex/auth.json"])
    })
  })

  it("commits nothing of the home directory if the git configuration names it as the working tree", () => {
    inHome((home) => {
      home.write(".codex/token", `${workspace}/a`)
      home.done(checkoutCommands.commitAll(options))
      home.git("config", "core.worktree", home.directory)
      home.write(`${workspace}/b`)
      home.done(checkoutCommands.commitAll(options))
      assert.deepStrictEqual(home.committed, ["a", "b"])
    })
  })

  it("refuses a workspace that is a link to another directory", () => {
    for (const target of [".", "elsewhere"]) {
      inHome((home) => {
        home.write(".codex/token", "elsewhere/a")
        home.sh(`ln -s ${target} ${workspace}`)
        const { status, stderr } = home.run(checkoutCommands.commitAll(options))
        assert.strictEqual(status, 65)
        assert.strictEqual(stderr.trim().split("\n").at(-1), "~/workspace must be a directory, not a link")
        assert.isFalse(home.has(".git"))
      })
    }
  })

  it("runs no program that the configuration of the repository or the user names, such as hooks", () => {
    inHome((home) => {
      home.write(`${workspace}/a`)
      home.done(checkoutCommands.commitAll(options))
      const trap = `#!/bin/sh\ntouch '${home.directory}/caught'\n`
      writeFileSync(join(home.directory, "trap"), trap, { mode: 0o755 })
      mkdirSync(join(home.directory, "hooks"))
      writeFileSync(join(home.directory, "hooks/post-index-change"), trap, { mode: 0o755 })
      const settings = `[core]\n\tfsmonitor = ${home.directory}/trap\n\thooksPath = ${home.directory}/hooks\n\tpager = ${home.directory}/trap\n`
      writeFileSync(join(home.directory, ".gitconfig"), settings)
      writeFileSync(join(home.directory, workspace, ".gitconfig"), settings)
      writeFileSync(join(home.directory, workspace, ".git/config"), settings, { flag: "a" })
      home.done(checkoutCommands.commitAll(options))
      assert.isFalse(home.has("caught"))
      assert.deepStrictEqual(home.committed, [".gitconfig", "a"])
    })
  })
})

/** A home directory that is a repository, as versions without workspaces created it: for a setup, or for a session. */
const olderHome = (home: Home, message: string): void => {
  home.sh(`git init -q -b main .; : > .git/castellan.lock
    git config user.name ${castellan.name}; git config user.email ${castellan.email}
    git add -A; git commit -q -m '${message}'; git update-ref refs/castellan/theirs HEAD
    printf '/.config/\\n/.npmrc\\n/mine/\\n' > .git/info/exclude`)
}

/** The entries of the home directory besides the workspace. */
const beside = (home: Home) => readdirSync(home.directory).filter((name) => name !== workspace)

describe("The home directory that was the working tree of a session", () => {
  it("moves the repository's files to the workspace, and keeps the user's files", () => {
    inHome((home) => {
      const repository = ".bashrc,.config/app.yml,.github/ci.yml,-dash,src/main.ts,with space,workspace/inner".split(
        ","
      )
      home.sh(
        "mkdir -p .config .github src workspace; printf '.env\\n' > .gitignore; echo 1 > ./-dash; echo 1 > 'with space'; ln -s src link"
      )
      home.write(
        ".bashrc",
        ".config/app.yml",
        ".github/ci.yml",
        "src/main.ts",
        "workspace/inner",
        "run",
        "gone",
        ".gitignore"
      )
      home.sh("chmod 755 run")
      olderHome(home, "theirs")
      home.write(
        ".npmrc",
        ".codex/auth.json",
        ".config/gh/hosts.yml",
        ".gitconfig",
        ".env",
        "untracked/new.ts",
        "mine/x"
      )
      home.sh("echo changed > src/main.ts; echo staged > staged; git add staged; rm gone")
      const head = home.sh("git rev-parse HEAD").trim()
      for (let again = 0; again < 2; again++) {
        home.done(checkoutCommands.relocate())
        assert.deepStrictEqual(beside(home), [".codex", ".config", ".env", ".gitconfig", ".npmrc"])
        assert.strictEqual(home.text(".config/gh/hosts.yml"), ".config/gh/hosts.yml")
        assert.isFalse(home.has(".config/app.yml"))
      }
      assert.strictEqual(home.git("rev-parse", "HEAD"), head)
      for (const path of repository) assert.isTrue(home.has(`${workspace}/${path}`), path)
      assert.strictEqual(home.git("status", "--porcelain"), "D gone\n M src/main.ts\nA  staged\n?? untracked/")
      assert.strictEqual(home.text(`${workspace}/.env`), ".env")
      assert.strictEqual(statSync(join(home.directory, workspace, "run")).mode & 0o777, 0o755)
      // Excludes that the user wrote stay; those of an earlier version are removed.
      home.write(`${workspace}/.npmrc`, `${workspace}/.config/more.yml`)
      home.git("add", "-A")
      assert.includeMembers(home.git("ls-files").split("\n"), [".npmrc", ".config/more.yml"])
      assert.notInclude(home.git("ls-files"), "mine/x")
    })
  })

  it("is moved to the workspace without a repository, and with unreadable files", () => {
    inHome((home) => {
      home.write("a", "sub/b", ".codex/auth.json")
      home.sh("mkdir closed; echo 1 > closed/c; chmod 000 closed")
      home.done(checkoutCommands.relocate())
      assert.deepStrictEqual(beside(home), [".codex"])
      assert.deepStrictEqual(readdirSync(join(home.directory, workspace)), [".git", "a", "closed", "sub"])
      home.sh(`chmod 700 ${workspace}/closed`)
    })
  })

  it("is moved completely, however often the move is interrupted", () => {
    inHome((home) => {
      const paths = Array.from({ length: 6 }, (_, n) => [`d${n}/a`, `d${n}/b`, `f${n}`, `.dot${n}/t`]).flat()
      home.write(...paths)
      olderHome(home, "theirs")
      const { args, command } = checkoutCommands.relocate()
      // Renaming directories fails here. The n-th program is killed together with the script, in the middle of its work.
      const programs = join(home.directory, ".programs")
      mkdirSync(programs)
      const half: Readonly<Record<string, string>> = {
        mv: "",
        cp: '/usr/bin/cp "$@"; find "$last" -type f | head -n 1 | xargs /usr/bin/rm -f;',
        rm: 'find "$last" -type f | head -n 1 | xargs /usr/bin/rm -f;'
      }
      for (const [program, cut] of Object.entries(half)) {
        writeFileSync(
          join(programs, program),
          `#!/bin/sh
           for last; do :; done
           read -r left < '${programs}/left'
           echo $((left - 1)) > '${programs}/left'
           [ "$left" -gt 0 ] || { ${cut} kill -9 0; }
           exec /usr/bin/${program} "$@"`,
          { mode: 0o755 }
        )
      }
      writeFileSync(join(programs, "perl"), "#!/bin/sh\nexit 1\n", { mode: 0o755 })
      const env = { PATH: `${programs}:${process.env["PATH"]}`, HOME: home.directory, GIT_CONFIG_NOSYSTEM: "1" }
      let cuts = 0
      for (let at = 1; ; at += 2, cuts++) {
        writeFileSync(join(programs, "left"), `${at}\n`)
        const { status } = spawnSync("setsid", ["-w", command, ...args], { cwd: home.directory, env })
        if (status === 0) break
        assert.isBelow(cuts, 100)
      }
      assert.isAbove(cuts, 5)
      assert.strictEqual(home.git("status", "--porcelain"), "")
      assert.deepStrictEqual(beside(home), [".programs"])
    })
  })
})

describe("A home directory that setups committed", () => {
  it("continues in the workspace without the home directory's own files that setups had committed", () => {
    inHome((home) => {
      home.write(".codex/auth.json", ".bashrc", ".gitconfig", ".unheard-of/token", ".gitignore", "notes.md", "sub/.env")
      olderHome(home, "Update sandbox files")
      home.write(".editorconfig")
      home.sh("git add .editorconfig; git -c user.email=else@example.com commit -q -m 'by somebody else'")
      home.write("new.md", ".claude/.credentials.json", ".env")
      const setup = { ...options, author: castellan }
      home.done(checkoutCommands.commitAll(setup))
      const kept = [".editorconfig", ".gitignore", "new.md", "notes.md", "sub/.env"]
      assert.deepStrictEqual(home.committed, kept)
      for (const path of [
        ".codex/auth.json",
        ".bashrc",
        ".gitconfig",
        ".unheard-of/token",
        ".claude/.credentials.json",
        ".env"
      ]) {
        assert.isTrue(home.has(path), path)
        assert.isFalse(home.has(`${workspace}/${path}`), path)
      }
      assert.isFalse(home.has(".git"))
      // From then on files with such names are committed like any other.
      home.write(`${workspace}/.bashrc`)
      home.done(checkoutCommands.commitAll(setup))
      home.done(checkoutCommands.commitAll(setup))
      assert.deepStrictEqual(home.committed, [".bashrc", ...kept])
    })
  })

  it("moves the files of an untracked ~/workspace into the new workspace, and keeps a tracked one", () => {
    const setup = { ...options, author: castellan }
    inHome((home) => {
      home.write("notes.md", "both")
      olderHome(home, "Update sandbox files")
      home.write(`${workspace}/new.md`, `${workspace}/.npmrc`)
      home.sh(`echo mine > ${workspace}/both`)
      home.done(checkoutCommands.commitAll(setup))
      assert.deepStrictEqual(home.committed, [".npmrc", "both", "new.md", "notes.md", `${workspace}/both`])
      assert.deepStrictEqual(
        [home.text(`${workspace}/both`), home.text(`${workspace}/workspace/both`)],
        ["both", "mine\n"]
      )
    })
    inHome((home) => {
      home.write("notes.md", `${workspace}/inner`)
      olderHome(home, "Update sandbox files")
      home.write(`${workspace}/new.md`)
      home.done(checkoutCommands.commitAll(setup))
      assert.deepStrictEqual(home.committed, ["notes.md", `${workspace}/inner`, `${workspace}/new.md`])
    })
  })

  it("is removed from the repository by a new sandbox too, and other files stay", () => {
    inHome((home) => {
      const setup = { ...options, author: castellan }
      mkdirSync(join(home.directory, "old"))
      const old = new Home(join(home.directory, "old"))
      old.write(".codex/auth.json", ".gitignore", "notes.md")
      olderHome(old, "Update sandbox files")
      const theirs = CommitId.make(old.sh("git rev-parse HEAD").trim())
      mkdirSync(join(home.directory, "new"))
      const fresh = new Home(join(home.directory, "new"))
      fresh.done(checkoutCommands.commitAll(setup))
      old.sh("git bundle create -q ../new/workspace/.git/castellan-in.bundle main")
      const printed = fresh.done(checkoutCommands.merge(setup, theirs))
      assert.deepStrictEqual(fresh.committed, [".gitignore", "notes.md"])
      assert.strictEqual(fresh.git("log", "-1", "--format=%s %P"), `Leave the home directory's files out ${theirs}`)
      assert.strictEqual(printedCommit(printed, "ahead"), fresh.git("rev-parse", "HEAD"))
      assert.isFalse(fresh.has(`${workspace}/.codex/auth.json`))
      assert.isFalse(fresh.has(".codex"))
    })
  })
})

describe("A directory named workspace", () => {
  it("stays below the working tree if a user cloned it into an earlier version's home directory", () => {
    inHome((home) => {
      home.write("a")
      olderHome(home, "theirs")
      home.sh("git init -q workspace; echo 1 > workspace/own")
      home.done(checkoutCommands.relocate())
      assert.strictEqual(home.text(`${workspace}/workspace/own`), "1\n")
      assert.isTrue(home.has(`${workspace}/workspace/.git`))
      assert.isTrue(home.has(`${workspace}/a`))
    })
  })

  it("is the working directory of a session's command, to which a requested path is relative", () => {
    assert.strictEqual(workspacePath(null), "workspace")
    assert.strictEqual(workspacePath("packages/a"), "workspace/packages/a")
    assert.strictEqual(workspacePath("/tmp"), "/tmp")
  })
})

describe("The output of a script", () => {
  it("lists the distinct commits after a label at the start of a line, in order", () => {
    const printed = `known ${two}\nahead ${one}\nknown ${two}\nnot known ${one}\nknown ${one}\nknown x\n`
    assert.deepStrictEqual<ReadonlyArray<string>>(printedCommits(printed, "known"), [two, one])
    assert.deepStrictEqual<ReadonlyArray<string>>(printedCommits(printed, "ahead"), [one])
    assert.deepStrictEqual(printedCommits(printed, "same"), [])
    assert.strictEqual(printedCommit(printed, "known"), two)
    assert.isNull(printedCommit(printed, "same"))
  })
})
