/** Removes the files of sandboxes and layers, whatever a sandbox left there: deep trees, closed directories, many files. */
import type { SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { record, metrics } from "@castellan/domain/Metrics.ts"
import { Effect, Schedule, Semaphore } from "effect"
import { renameSync } from "node:fs"
import { readdir } from "node:fs/promises"
import { join } from "node:path"
import { attempt, attemptNow } from "../process/Host.ts"
import type { Isolation } from "../isolation/Isolation.ts"
import { fresh, type Layout } from "./Layout.ts"
import { removeTree } from "../isolation/scripts.ts"
import { isRoot } from "../process/Spawn.ts"
import { run } from "../process/Spawner.ts"

/** How many removals run at once. */
const atOnce = 2

/** How long after one look at the trash the next one begins. */
const lookEvery = "1 minute"

/** Characters of a failed removal's errors that are logged. */
const errorsLogged = 500

export interface Trash {
  /** Moves something to the trash, from where it is removed; false if it is not there. */
  readonly discard: (path: string) => Effect.Effect<boolean, SandboxUnavailable>
}

/**
 * The trash of a provider's directory. It is emptied at the start and every minute, so what a killed server left is
 * removed, and what could not be removed is tried again. A failure is logged once for each thing that can't be removed.
 */
export const make = Effect.fnUntraced(function* (layout: Layout, isolation: Isolation) {
  // Only root of the user namespace that owns the files may enter directories that are closed to their owner.
  const asOwner = isRoot || isolation.kind === "none" ? [] : ["unshare", "--user", "--map-root-user"]
  const turns = yield* Semaphore.make(atOnce)
  const scope = yield* Effect.scope
  const underWay = new Set<string>()
  const failed = new Set<string>()

  const remove = (name: string) =>
    Effect.gen(function* () {
      const command = [...asOwner, "sh", "-c", removeTree, "remove", join(layout.trash, name)]
      const { code, stderr } = yield* run("remove", command, { cwd: "/", user: false })
      if (code === 0) return void failed.delete(name)
      if (!failed.has(name)) {
        yield* Effect.logWarning("Could not remove what a sandbox left; trying again every minute", {
          directory: join(layout.trash, name),
          reason: stderr.slice(0, errorsLogged)
        })
      }
      failed.add(name)
    }).pipe(
      Effect.ignore,
      turns.withPermits(1),
      Effect.ensuring(Effect.sync(() => underWay.delete(name))),
      Effect.andThen(Effect.suspend(() => record(metrics.unremoved, failed.size, {})))
    )

  const begin = (name: string) =>
    Effect.suspend(() => {
      if (underWay.has(name)) return Effect.void
      underWay.add(name)
      return Effect.asVoid(Effect.forkIn(remove(name), scope))
    })

  const empty = Effect.flatMap(
    attempt("remove", () => readdir(layout.trash)),
    (names) => Effect.forEach(names, begin, { discard: true })
  )
  yield* Effect.forkScoped(Effect.repeat(Effect.ignore(empty), Schedule.spaced(lookEvery)))

  const discard = (path: string) =>
    Effect.gen(function* () {
      const name = fresh()
      const isThere = yield* attemptNow("remove", () => {
        try {
          renameSync(path, join(layout.trash, name))
          return true
        } catch (cause) {
          if ((cause as NodeJS.ErrnoException).code === "ENOENT") return false
          throw cause
        }
      })
      if (isThere) yield* begin(name)
      return isThere
    })

  return { discard } satisfies Trash
})
