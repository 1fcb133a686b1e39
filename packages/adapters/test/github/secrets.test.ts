import { RepoPath } from "@castellan/domain/repo/FileTree.ts"
import { BranchName, firstBranch } from "@castellan/domain/repo/Repo.ts"
import { RepoHost, RepoUnavailable } from "@castellan/domain/repo/RepoHost.ts"
import { GitHubEmulator } from "@castellan/testkit/emulators/github/GitHubEmulator.ts"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Formatter, Logger, Schema } from "effect"
import { execFileSync } from "node:child_process"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { inspect } from "node:util"
import { vi } from "vitest"
import { emulated } from "./emulatedGitHub.ts"
import { pushed, repoOf } from "./fixture.ts"

const token = "token-for-tests-of-secrets"
const forms = [token, Buffer.from(`x-access-token:${token}`).toString("base64"), Buffer.from(token).toString("base64")]
const isFree = (text: string, where: string) => {
  for (const form of forms) assert.notInclude(text, form, where)
}

/** All text that can be taken from a failure. */
const seen = (exit: Exit.Exit<unknown, unknown>): string => {
  if (Exit.isSuccess(exit)) return ""
  const error = Cause.squash(exit.cause)
  const encoded = error instanceof RepoUnavailable ? Schema.encodeSync(RepoUnavailable)(error) : {}
  return [
    inspect(exit, { depth: 30, showHidden: true }),
    Cause.pretty(exit.cause),
    JSON.stringify(exit),
    JSON.stringify(encoded),
    Formatter.format(error)
  ].join("\n")
}

/** Reads something that may disappear meanwhile. */
const ifThere = <A>(read: () => ReadonlyArray<A>): ReadonlyArray<A> => {
  try {
    return read()
  } catch {
    return []
  }
}

/** The arguments of every process of this machine. */
const processes = () =>
  existsSync("/proc/self")
    ? readdirSync("/proc")
        .filter((name) => /^\d+$/.test(name))
        .flatMap((pid) => ifThere(() => [readFileSync(`/proc/${pid}/cmdline`, "latin1").replaceAll("\0", " ")]))
    : execFileSync("ps", ["-axo", "args"], { encoding: "utf8" }).split("\n")

/** The contents of the files that git writes for this process, by name. */
const workspaces = () =>
  readdirSync(tmpdir())
    .filter((name) => name.startsWith(`castellan-git-${process.pid}-`))
    .map((name) => join(tmpdir(), name))
    .flatMap((directory) =>
      ifThere(() => readdirSync(directory, { recursive: true, encoding: "utf8" })).flatMap((name) =>
        ifThere(() => [[join(directory, name), readFileSync(join(directory, name), "latin1")] as const])
      )
    )

describe("The GitHub token", () => {
  it.live("appears in no error, log or URL, even if GitHub repeats it", () => {
    const logged: Array<string> = []
    const note = (...args: ReadonlyArray<unknown>) => void logged.push(inspect(args, { depth: 30, showHidden: true }))
    const channels = ["log", "info", "warn", "error", "debug"] as const
    for (const channel of channels) vi.spyOn(console, channel).mockImplementation(note)
    return Effect.gen(function* () {
      const github = yield* GitHubEmulator
      const host = yield* RepoHost
      const repo = yield* repoOf("one")
      yield* pushed(repo, { file: "1" })
      const message = `you said ${forms.join(" and ")}`
      let failures = 0
      for (const [operation, path] of [
        [host.find(repo), /./],
        [host.ensure(repo), /./],
        [host.remove(repo), /./],
        [host.tree(repo, null), /./],
        [host.readFile(repo, RepoPath.make("file")), /./],
        [Effect.scoped(host.fetch(repo, null, [], "service")), /info\/refs/],
        [Effect.provideService(pushed(repo, { file: "2" }), RepoHost, host), /info\/refs/]
      ] as ReadonlyArray<readonly [Effect.Effect<unknown, unknown>, RegExp]>) {
        for (const fault of [
          { kind: "status", status: 500, message },
          { kind: "status", status: 401, message },
          { kind: "rateLimited", status: 429, resetInSeconds: 1 },
          { kind: "droppedBefore" }
        ] as const) {
          github.faults.clear()
          github.faults.plan(fault, { path })
          const exit = yield* Effect.exit(Effect.tapCause(operation, (cause) => Effect.logError("refused", cause)))
          assert.isTrue(Exit.isFailure(exit))
          failures++
          isFree(seen(exit), `the error of ${fault.kind}`)
        }
      }
      assert.isAtLeast(logged.length, failures)
      isFree(logged.join("\n"), "the log")
      isFree(github.requests.map((request) => request.path).join("\n"), "a URL")
      // The test is meaningless unless the token was sent.
      const sent = github.requests.filter(({ headers }) => forms.some((form) => headers.authorization?.includes(form)))
      assert.isAtLeast(sent.length, failures)
    }).pipe(
      Effect.provide(Logger.layer([Logger.consolePretty(), Logger.consoleJson, Logger.consoleLogFmt])),
      Effect.provide(emulated({ token })),
      Effect.ensuring(Effect.sync(() => vi.restoreAllMocks()))
    )
  })

  it.live("appears in no process arguments and no file while git fetches and pushes", () =>
    Effect.gen(function* () {
      const github = yield* GitHubEmulator
      const host = yield* RepoHost
      const repo = yield* repoOf("one")
      yield* pushed(repo, { file: "1" })
      // Slow enough to be observed.
      github.faults.plan({ kind: "slow", ms: 100 }, { times: 1000 })
      const pushes = pushed(repo, { file: "2" }, BranchName.make("other"))
      const both: ReadonlyArray<Effect.Effect<unknown, unknown, RepoHost>> = [
        Effect.scoped(host.fetch(repo, firstBranch, [], "service")),
        pushes
      ]
      for (const operation of both) {
        const running = new Set<string>()
        const files = new Map<string, string>()
        const watch = Effect.sync(() => {
          for (const line of processes()) running.add(line)
          for (const [file, text] of workspaces()) files.set(`${text.length} bytes of ${file}`, text)
        })
        yield* Effect.raceFirst(operation, Effect.forever(Effect.andThen(watch, Effect.sleep("10 millis"))))
        assert.isTrue([...running].some((line) => line.includes("git") && line.includes(github.url)))
        assert.isTrue([...files.keys()].some((file) => file.endsWith("/config")))
        isFree([...running].join("\n"), "an argument")
        for (const [file, text] of files) isFree(text, file)
        assert.deepStrictEqual(workspaces(), [])
      }
    }).pipe(Effect.provide(emulated({ token })))
  )
})
