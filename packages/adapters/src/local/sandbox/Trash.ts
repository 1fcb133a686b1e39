/** Removes the files of sandboxes and layers, also deep trees, closed directories and many files. */
import type { SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { metrics, record } from "@castellan/domain/Metrics.ts"
import { Effect, Schedule, Semaphore } from "effect"
import { renameSync } from "node:fs"
import { readdir } from "node:fs/promises"
import { join } from "node:path"
import { attempt, attemptSync } from "../process/attempt.ts"
import type { Isolation } from "../isolation/Isolation.ts"
import { randomId } from "../storage/files.ts"
import type { Layout } from "../storage/Layout.ts"
import { removeTree } from "./scripts.ts"
import { isRoot } from "../process/Spawn.ts"
import { run } from "../process/Spawner.ts"

/** Removals that run at once. */
const concurrency = 2

/** The pause between two attempts to empty the trash. */
const emptyEvery = "1 minute"

/** Characters of a failed removal's standard error that are logged. */
const maxLoggedError = 500

export interface Trash {
  /** Moves a file or directory to the trash, which removes it in the background; false if it does not exist. */
  readonly discard: (path: string) => Effect.Effect<boolean, SandboxUnavailable>
}

/**
 * The trash of a data directory. It is emptied at the start and every minute: this removes what a killed server left, and
 * retries failed removals. A failure is logged once for each entry.
 */
export const make = Effect.fnUntraced(function* (layout: Layout, isolation: Isolation) {
  // Only root of a user namespace may enter directories that are closed to their owner.
  const asOwner = isRoot || isolation.kind === "none" ? [] : ["unshare", "--user", "--map-root-user"]
  const permits = yield* Semaphore.make(concurrency)
  const scope = yield* Effect.scope
  const inProgress = new Set<string>()
  const failed = new Set<string>()

  const remove = (name: string) =>
    Effect.gen(function* () {
      const command = [...asOwner, "sh", "-c", removeTree, "remove", join(layout.trash, name)]
      const { code, stderr } = yield* run("remove", command, { cwd: "/", user: false })
      if (code === 0) return void failed.delete(name)
      if (!failed.has(name)) {
        yield* Effect.logWarning("Failed to remove files of a sandbox; retrying every minute", {
          directory: join(layout.trash, name),
          reason: stderr.slice(0, maxLoggedError)
        })
      }
      failed.add(name)
    }).pipe(
      Effect.ignore,
      permits.withPermits(1),
      Effect.ensuring(Effect.sync(() => inProgress.delete(name))),
      Effect.andThen(Effect.suspend(() => record(metrics.unremoved, failed.size, {})))
    )

  const removeInBackground = (name: string) =>
    Effect.suspend(() => {
      if (inProgress.has(name)) return Effect.void
      inProgress.add(name)
      return Effect.asVoid(Effect.forkIn(remove(name), scope))
    })

  const empty = Effect.flatMap(
    attempt("remove", () => readdir(layout.trash)),
    (names) => Effect.forEach(names, removeInBackground, { discard: true })
  )
  yield* Effect.forkScoped(Effect.repeat(Effect.ignore(empty), Schedule.spaced(emptyEvery)))

  const discard = (path: string) =>
    Effect.gen(function* () {
      const name = randomId()
      const exists = yield* attemptSync("remove", () => {
        try {
          renameSync(path, join(layout.trash, name))
          return true
        } catch (cause) {
          if ((cause as NodeJS.ErrnoException).code === "ENOENT") return false
          throw cause
        }
      })
      if (exists) yield* removeInBackground(name)
      return exists
    })

  return { discard } satisfies Trash
})
