import * as Git from "@castellan/adapters/git/Git.ts"
import { isAlive } from "@castellan/adapters/process/processStat.ts"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Redacted, Stream } from "effect"
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { zombie } from "../process/zombie.ts"

describe("Git", () => {
  it.live("passes a secret outside git's arguments and sends it only to the server it is for", () =>
    Effect.gen(function* () {
      const header = `Basic it's "secret"! $HOME \\ =`
      const authorization = { url: "https://git.example.com/", header: Redacted.make(header) }
      const read = (url: string) =>
        Git.succeeds(["config", "--get-urlmatch", "http.extraHeader", url], { authorization })
      const text = Git.text(["config", "--get-urlmatch", "http.extraHeader", "https://git.example.com/a/b"], {
        authorization
      })
      assert.strictEqual(yield* text, `Authorization: ${header}`)
      assert.isFalse(yield* read("https://git.example.com.evil.example/a/b"))
      assert.isFalse(yield* read("https://elsewhere.example.com/a/b"))
    })
  )

  it.live("reports the subcommand, the exit code and the message of a failed git", () =>
    Effect.gen(function* () {
      const failed = yield* Effect.flip(Git.text(["rev-parse", "HEAD"], { repository: "/nowhere" }))
      assert.deepStrictEqual([failed.operation, failed.code], ["rev-parse", 128])
      assert.include(failed.stderr, "not a git repository")
    })
  )

  it.live("ends git when the caller is interrupted", () =>
    Effect.gen(function* () {
      const directory = yield* Git.workspace
      const running = Git.text(["-c", `alias.wait=!echo $$ > ${directory}/pid; sleep 600 & wait`, "wait"])
      const fiber = yield* Effect.forkChild(running)
      while (!existsSync(join(directory, "pid"))) yield* Effect.sleep("10 millis")
      yield* Effect.sleep("50 millis")
      yield* Fiber.interrupt(fiber)
      const pid = readFileSync(join(directory, "pid"), "utf8").trim()
      assert.throws(() => process.kill(Number(pid), 0))
    }).pipe(Effect.scoped)
  )

  it.live("kills git and its child processes at the timeout", () =>
    Effect.gen(function* () {
      const directory = yield* Git.workspace
      const args = ["-c", `alias.wait=!echo $$ > ${directory}/pid; sleep 600 & wait`, "wait"]
      const failed = yield* Effect.flip(Git.text(args, { timeout: Duration.millis(200) }))
      assert.strictEqual(failed.code, Git.timedOut)
      const pid = readFileSync(join(directory, "pid"), "utf8").trim()
      assert.throws(() => process.kill(Number(pid), 0))
    }).pipe(Effect.scoped)
  )

  it.live("kills a git that prints too much, and one whose reader has enough", () =>
    Effect.gen(function* () {
      const directory = yield* Git.workspace
      const args = ["-c", `alias.yes=!echo $$ >> ${directory}/pids; exec yes`, "yes"]
      assert.strictEqual((yield* Effect.flip(Git.text(args)))?.code, Git.outputTooLarge)
      let size = 0
      yield* Git.run(args, {}, (chunk) => (size += chunk.length) < 1000)
      assert.isAtLeast(size, 1000)
      for (const pid of readFileSync(join(directory, "pids"), "utf8").trim().split("\n")) {
        assert.isFalse(isAlive(Number(pid)))
      }
    }).pipe(Effect.scoped)
  )

  it.live("limits git's memory and the size of its files by default", () =>
    Effect.gen(function* () {
      const printed = yield* Git.text(["-c", "alias.limits=!ulimit -v; ulimit -f", "limits"])
      for (const limit of printed.split("\n")) assert.match(limit, /^\d+$/)
    })
  )

  it.effect("requires an installed git of a supported version", () =>
    Effect.gen(function* () {
      const missing = Effect.fail(new Git.GitFailed({ operation: "--version", code: 127, stderr: "spawn git ENOENT" }))
      assert.include((yield* Effect.flip(Git.checkVersion(missing))).message, "spawn git ENOENT")
      for (const old of ["git version 2.29.9", "git version 1.99.0", "nonsense"]) {
        assert.include((yield* Effect.flip(Git.checkVersion(Effect.succeed(old)))).message, old)
      }
      for (const enough of ["git version 2.30.0", "git version 2.39.5 (Apple Git-154)", "git version 3.0.1"]) {
        yield* Git.checkVersion(Effect.succeed(enough))
      }
    })
  )

  it.live("deletes a workspace with its scope, and the workspaces of dead processes at a sweep", () =>
    Effect.gen(function* () {
      const dead = join(tmpdir(), "castellan-git-999999999-dead")
      const other = join(tmpdir(), `castellan-git-${process.ppid}-alive`)
      for (const directory of [dead, other]) mkdirSync(directory)
      const own = yield* Effect.scoped(
        Effect.gen(function* () {
          const own = yield* Git.workspace
          yield* Git.removeStaleWorkspaces
          assert.isTrue(existsSync(own))
          return own
        })
      )
      assert.deepStrictEqual([dead, own, other].map(existsSync), [false, false, true])
      rmSync(other, { recursive: true })
    })
  )

  it.live("removes the workspace of a process that is a zombie", () =>
    Effect.gen(function* () {
      const pid = yield* zombie()
      const left = join(tmpdir(), `castellan-git-${pid}-zombie`)
      mkdirSync(left)
      yield* Git.removeStaleWorkspaces
      assert.isFalse(existsSync(left))
    }).pipe(Effect.scoped)
  )

  it.live("writes a stream to a file unchanged, and fails with the stream's error", () =>
    Effect.gen(function* () {
      const directory = yield* Git.workspace
      const bytes = Uint8Array.from({ length: 300_000 }, (_, n) => (n * 7919) % 256)
      const file = join(directory, "file")
      yield* Git.writeFile(file, Stream.make(bytes.subarray(0, 10), bytes.subarray(10, 10), bytes.subarray(10)))
      assert.isTrue(Buffer.concat(yield* Stream.runCollect(Git.readFile(file))).equals(bytes))
      const broken = Git.writeFile(
        join(directory, "broken"),
        Stream.concat(Stream.make(bytes), Stream.fail("broken off"))
      )
      assert.deepStrictEqual(yield* Effect.exit(broken), Exit.fail("broken off"))
    }).pipe(Effect.scoped)
  )
})
