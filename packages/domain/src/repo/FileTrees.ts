import { Context, Deferred, Effect, Exit, Layer, Option } from "effect"
import { monotonicMillis } from "../monotonicMillis.ts"
import type { FileTree, RepoPath } from "./FileTree.ts"
import type { Repo } from "./Repo.ts"
import {
  type RepoFileNotFound,
  type RepoFileTooLarge,
  RepoHost,
  type RepoNotFound,
  RepoUnavailable,
  type Right
} from "./RepoHost.ts"

/** How long a tree is shown without asking whether it is still the one, in milliseconds. */
export const freshFor = 15_000

/** How long an answer is waited for, from the moment the host was asked, in milliseconds. */
export const patience = 4_000

/** How long a host that failed is not asked for the same tree again, in milliseconds: at the least, and at the most. */
export const quietFor = { least: 5_000, most: 3_600_000 }

/** Trees and their entries that are kept in memory. */
const entriesKept = 500_000

interface Known {
  readonly tree: FileTree
  readonly askedAt: number
}

interface Question {
  readonly askedAt: number
  readonly answer: Deferred.Deferred<FileTree, RepoNotFound | RepoUnavailable>
}

interface Quiet {
  readonly until: number
  readonly failure: RepoUnavailable
}

/** What is in repositories, on their default branches. */
export class FileTrees extends Context.Service<
  FileTrees,
  {
    /**
     * The repository's tree, at most `freshFor` old. One question to the host at most, however many ask at once, and
     * none while it is fresh. A host that is slow is waited for once, for `patience`; one that failed is left alone for
     * a while, and one that said for how long is left alone with every tree of that right.
     */
    readonly tree: (repo: Repo, right?: Right) => Effect.Effect<FileTree, RepoNotFound | RepoUnavailable>
    /** The bytes of a file. */
    readonly file: (
      repo: Repo,
      path: RepoPath,
      right: Right
    ) => Effect.Effect<Uint8Array, RepoFileNotFound | RepoFileTooLarge | RepoNotFound | RepoUnavailable>
    /** Lets the next look ask the host again: for whoever has just changed the repository. */
    readonly forget: (repo: Repo) => Effect.Effect<void>
  }
>()("domain/repo/FileTrees") {
  static readonly layer = Layer.effect(
    FileTrees,
    Effect.gen(function* () {
      const host = yield* RepoHost
      const scope = yield* Effect.scope
      /** In the order of their use, so that the first is the one to go. */
      const known = new Map<string, Known>()
      /** What the host has not answered yet. */
      const asked = new Map<string, Question>()
      /** Of single repositories, in the order they end; and of the host as a whole. */
      const quiet = new Map<string, Quiet>()
      const hostQuiet = new Map<Right, Quiet>()
      let entries = 0

      const keyOf = (repo: Repo, right: Right) => `${right} ${repo.owner}/${repo.name}`.toLowerCase()

      const weight = (one: Known | undefined) => (one === undefined ? 0 : one.tree.entries.length + 1)

      const drop = (key: string) => {
        entries -= weight(known.get(key))
        known.delete(key)
      }

      const keep = (key: string, one: Known) => {
        drop(key)
        known.set(key, one)
        entries += weight(one)
        for (const oldest of known.keys()) {
          if (entries <= entriesKept || oldest === key) break
          drop(oldest)
        }
      }

      const leaveAlone = (key: string, right: Right, failure: RepoUnavailable, now: number) => {
        const wait = Math.min(quietFor.most, Math.max(quietFor.least, failure.retryAfterMs ?? 0))
        const one = { until: now + wait, failure }
        if (failure.retryAfterMs === null) {
          quiet.delete(key)
          quiet.set(key, one)
        } else if ((hostQuiet.get(right)?.until ?? 0) < one.until) hostQuiet.set(right, one)
        for (const [other, { until }] of quiet) {
          if (until > now) break
          quiet.delete(other)
        }
      }

      /** What was forgotten while the host was asked may have changed since: that answer is for those who wait alone. */
      const settle = (
        key: string,
        right: Right,
        question: Question,
        exit: Exit.Exit<FileTree, RepoNotFound | RepoUnavailable>,
        now: number
      ) => {
        if (asked.get(key) !== question) return
        asked.delete(key)
        if (Exit.isSuccess(exit)) return keep(key, { tree: exit.value, askedAt: question.askedAt })
        const failure = Option.getOrUndefined(Exit.findErrorOption(exit))
        if (failure?._tag === "RepoNotFound") drop(key)
        if (failure?._tag === "RepoUnavailable") leaveAlone(key, right, failure, now)
      }

      /** The host is asked on behalf of all who wait, so that none of them breaks it off for the others. */
      const ask = Effect.fnUntraced(function* (repo: Repo, right: Right, now: number) {
        const key = keyOf(repo, right)
        const question: Question = {
          askedAt: now,
          answer: yield* Deferred.make<FileTree, RepoNotFound | RepoUnavailable>()
        }
        const before = known.get(key)?.tree
        asked.set(key, question)
        const tree = right === "service" ? host.tree : host.publicTree
        yield* Effect.interruptible(tree(repo, before?.revision ?? null)).pipe(
          Effect.flatMap(
            Option.match({
              onSome: Effect.succeed,
              onNone: () =>
                before === undefined
                  ? Effect.die(new Error("a tree nobody has seen is said to be the same"))
                  : Effect.succeed(before)
            })
          ),
          Effect.tapError((failure) =>
            failure._tag === "RepoUnavailable"
              ? Effect.logWarning("a repository's files can't be shown", failure)
              : Effect.void
          ),
          Effect.exit,
          Effect.tap((exit) => Effect.map(monotonicMillis, (at) => settle(key, right, question, exit, at))),
          Effect.flatMap((exit) => Deferred.done(question.answer, exit)),
          Effect.forkIn(scope)
        )
        return question
      }, Effect.uninterruptible)

      return FileTrees.of({
        tree: Effect.fn("FileTrees.tree")(function* (repo: Repo, right: Right = "service") {
          const key = keyOf(repo, right)
          const now = yield* monotonicMillis
          const one = known.get(key)
          if (one !== undefined && now < one.askedAt + freshFor) return one.tree
          const left = [hostQuiet.get(right), quiet.get(key)].find((quiet) => quiet !== undefined && now < quiet.until)
          if (left !== undefined) return yield* left.failure
          const { answer, askedAt } = asked.get(key) ?? (yield* ask(repo, right, now))
          const late = Effect.suspend(
            () =>
              new RepoUnavailable({ operation: "tree", retryable: true, retryAfterMs: null, cause: "no answer yet" })
          )
          if (now >= askedAt + patience) return yield* late
          return yield* Deferred.await(answer).pipe(
            Effect.timeoutOrElse({ duration: askedAt + patience - now, orElse: () => late })
          )
        }),
        file: (repo, path, right) =>
          right === "service" ? host.readFile(repo, path) : host.readPublicFile(repo, path),
        forget: (repo) =>
          Effect.sync(() => {
            for (const right of ["service", "anyone"] as const) {
              const key = keyOf(repo, right)
              asked.delete(key)
              quiet.delete(key)
              const one = known.get(key)
              if (one !== undefined) known.set(key, { ...one, askedAt: -freshFor })
            }
          })
      })
    })
  )
}
