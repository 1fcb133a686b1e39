/**
 * One at a time for each key: in this process in the order they came, and among all processes that have the provider's
 * directory open. A lock is SQLite's on a file of the directory, which the kernel lets go of with whoever held it.
 */
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import type { SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Effect, Semaphore } from "effect"
import { createHash, randomInt } from "node:crypto"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { attemptNow } from "./Host.ts"

/** In this process alone; a key nobody waits for costs nothing. */
const within = <K>() => {
  const held = new Map<K, { readonly semaphore: Semaphore.Semaphore; users: number }>()

  return (key: K) =>
    <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
      Effect.suspend(() => {
        const lock = held.get(key) ?? { semaphore: Semaphore.makeUnsafe(1), users: 0 }
        lock.users++
        held.set(key, lock)
        return Effect.ensuring(
          lock.semaphore.withPermits(1)(effect),
          Effect.sync(() => {
            if (--lock.users === 0) held.delete(key)
          })
        )
      })
}

/** What SQLite answers where another has the lock. */
const busy = 5

/** Takes the lock on a file, and gives what lets go of it; undefined if somebody else has it. */
const taken = (file: string): (() => void) | undefined => {
  const database = new DatabaseSync(file, { timeout: 0 })
  try {
    database.exec("pragma journal_mode = memory; begin exclusive")
    return () => database.close()
  } catch (cause) {
    database.close()
    if ((cause as { readonly errcode?: unknown }).errcode === busy) return undefined
    throw cause
  }
}

/** Milliseconds between two tries, at first and at most; by chance less, so that two never keep step. */
const soon = 2
const atMost = 20

type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/** Takes the lock on a file once it is free. Only the pauses are `interruptible`, so that no lock is held by nobody. */
const hold = Effect.fnUntraced(function* (file: string, interruptible: Restore) {
  let pause = soon
  while (true) {
    const release = yield* attemptNow("lock", () => taken(file))
    if (release !== undefined) return release
    yield* interruptible(Effect.sleep(randomInt(pause) + 1))
    pause = Math.min(2 * pause, atMost)
  }
})

/**
 * Names share so many files, which stay: one that is removed may be locked by one process while another locks its
 * successor. Names that share a file wait for each other, which is slow at worst.
 */
const fileOf = (name: SandboxName): string => `sandbox-${createHash("sha256").update(name).digest("hex").slice(0, 3)}`

export interface Locks {
  /** For all that changes a sandbox. */
  readonly sandbox: (name: SandboxName) => Lock
  /** For all between reading a chain of layers and writing down who stands on them. Whoever takes a sandbox's lock, too, takes that first. */
  readonly layers: Lock
  /** For making the directory ready. */
  readonly directory: Lock
}

type Lock = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | SandboxUnavailable, R>

/** The locks of a directory that holds nothing else. */
export const make = (directory: string): Locks => {
  const inTurn = within<string>()

  const lock =
    (key: string, file: string): Lock =>
    (effect) =>
      inTurn(key)(
        Effect.uninterruptibleMask((restore) =>
          Effect.flatMap(hold(join(directory, file), restore), (release) =>
            Effect.ensuring(restore(effect), Effect.sync(release))
          )
        )
      )

  return {
    sandbox: (name) => lock(`sandbox ${name}`, fileOf(name)),
    layers: lock("layers", "layers"),
    directory: lock("directory", "directory")
  }
}
