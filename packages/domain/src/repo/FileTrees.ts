import { Context, Deferred, Effect, Exit, Layer, Option, Semaphore } from "effect"
import { monotonicMillis } from "../monotonicMillis.ts"
import type { FileTree, RepoPath } from "./FileTree.ts"
import type { ReadAs } from "./ReadAs.ts"
import type { Repo } from "./Repo.ts"
import {
  type RepoFileNotFound,
  type RepoFileTooLarge,
  RepoHost,
  type RepoNotFound,
  RepoUnavailable
} from "./RepoHost.ts"

/** How long a tree is shown without asking whether it is still the one, in milliseconds. */
export const freshFor = 15_000

/** How long an answer is waited for, from the moment the host was asked, in milliseconds. */
export const patience = 4_000

/** How long a host that failed is not asked for the same tree again, in milliseconds: at the least, and at the most. */
export const quietFor = { least: 5_000, most: 3_600_000 }

/** Bytes of memory that the trees may take which are kept, as estimated by `weightOf`. */
const bytesKept = 192 * 1024 * 1024

/** Questions of one account that the host has not answered yet; one more fails. */
const unansweredAtMost = 2

/** Trees that are read at a time. Others wait for their turn. */
const readAtOnce = 32

/** What an entry takes in memory beside its path. */
const entryWeight = 400

const weightOf = ({ entries }: FileTree) =>
  entries.reduce((weight, { path }) => weight + entryWeight + path.length, entryWeight)

interface Known {
  readonly tree: FileTree
  readonly weight: number
  readonly askedAt: number
}

interface Question {
  readonly askedAt: number
  readonly asker: string | null
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
     * a while, and one that said for how long is left alone with every tree of that right. It fails at once where the host
     * has not answered two questions of the same `asker` yet, so that the trees of one account keep nobody waiting.
     */
    readonly tree: (
      repo: Repo,
      readAs?: ReadAs,
      asker?: string
    ) => Effect.Effect<FileTree, RepoNotFound | RepoUnavailable>
    /** The bytes of a file. */
    readonly file: (
      repo: Repo,
      path: RepoPath,
      readAs: ReadAs
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
      const hostQuiet = new Map<ReadAs, Quiet>()
      let weight = 0
      const turn = Semaphore.makeUnsafe(readAtOnce)
      /** Questions that are on their way to the host, also those that nobody waits for any more. */
      const onTheirWay = new Set<Question>()

      const keyOf = (repo: Repo, readAs: ReadAs) => `${readAs} ${repo.owner}/${repo.name}`.toLowerCase()

      const drop = (key: string) => {
        weight -= known.get(key)?.weight ?? 0
        known.delete(key)
      }

      const keep = (key: string, one: Known) => {
        drop(key)
        known.set(key, one)
        weight += one.weight
        for (const oldest of known.keys()) {
          if (weight <= bytesKept || oldest === key) break
          drop(oldest)
        }
      }

      const leaveAlone = (key: string, readAs: ReadAs, failure: RepoUnavailable, now: number) => {
        const wait = Math.min(quietFor.most, Math.max(quietFor.least, failure.retryAfterMs ?? 0))
        const one = { until: now + wait, failure }
        if (failure.retryAfterMs === null) {
          quiet.delete(key)
          quiet.set(key, one)
        } else if ((hostQuiet.get(readAs)?.until ?? 0) < one.until) hostQuiet.set(readAs, one)
        for (const [other, { until }] of quiet) {
          if (until > now) break
          quiet.delete(other)
        }
      }

      /** What was forgotten while the host was asked may have changed since: that answer is for those who wait alone. */
      const settle = (
        key: string,
        readAs: ReadAs,
        question: Question,
        exit: Exit.Exit<FileTree, RepoNotFound | RepoUnavailable>,
        now: number
      ) => {
        if (asked.get(key) !== question) return
        asked.delete(key)
        if (Exit.isSuccess(exit)) {
          const tree = exit.value
          const before = known.get(key)
          const weight = before?.tree === tree ? before.weight : weightOf(tree)
          return keep(key, { tree, weight, askedAt: question.askedAt })
        }
        const failure = Option.getOrUndefined(Exit.findErrorOption(exit))
        if (failure?._tag === "RepoNotFound") drop(key)
        if (failure?._tag === "RepoUnavailable") leaveAlone(key, readAs, failure, now)
      }

      /** The host is asked on behalf of all who wait, so that none of them breaks it off for the others. */
      const ask = Effect.fnUntraced(function* (repo: Repo, readAs: ReadAs, asker: string | null, now: number) {
        const key = keyOf(repo, readAs)
        const theirs = asker === null ? 0 : Array.from(onTheirWay).filter((one) => one.asker === asker).length
        if (theirs >= unansweredAtMost) {
          const cause = "other trees of the account are still being read"
          return yield* new RepoUnavailable({ operation: "tree", retryable: true, retryAfterMs: null, cause })
        }
        const question: Question = {
          askedAt: now,
          asker,
          answer: yield* Deferred.make<FileTree, RepoNotFound | RepoUnavailable>()
        }
        const before = known.get(key)?.tree
        asked.set(key, question)
        onTheirWay.add(question)
        const tree = readAs === "service" ? host.tree : host.publicTree
        yield* Effect.interruptible(turn.withPermits(1)(tree(repo, before?.revision ?? null))).pipe(
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
          Effect.tap(() => Effect.sync(() => onTheirWay.delete(question))),
          Effect.tap((exit) => Effect.map(monotonicMillis, (at) => settle(key, readAs, question, exit, at))),
          Effect.flatMap((exit) => Deferred.done(question.answer, exit)),
          Effect.forkIn(scope)
        )
        return question
      }, Effect.uninterruptible)

      return FileTrees.of({
        tree: Effect.fn("FileTrees.tree")(function* (repo: Repo, readAs: ReadAs = "service", asker?: string) {
          const key = keyOf(repo, readAs)
          const now = yield* monotonicMillis
          const one = known.get(key)
          if (one !== undefined && now < one.askedAt + freshFor) return one.tree
          const left = [hostQuiet.get(readAs), quiet.get(key)].find((quiet) => quiet !== undefined && now < quiet.until)
          if (left !== undefined) return yield* left.failure
          const { answer, askedAt } = asked.get(key) ?? (yield* ask(repo, readAs, asker ?? null, now))
          const late = Effect.suspend(
            () =>
              new RepoUnavailable({ operation: "tree", retryable: true, retryAfterMs: null, cause: "no answer yet" })
          )
          if (now >= askedAt + patience) return yield* late
          return yield* Deferred.await(answer).pipe(
            Effect.timeoutOrElse({ duration: askedAt + patience - now, orElse: () => late })
          )
        }),
        file: (repo, path, readAs) =>
          readAs === "service" ? host.readFile(repo, path) : host.readPublicFile(repo, path),
        forget: (repo) =>
          Effect.sync(() => {
            for (const readAs of ["service", "anonymous"] as const) {
              const key = keyOf(repo, readAs)
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
