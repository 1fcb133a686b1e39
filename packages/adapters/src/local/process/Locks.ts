/**
 * Locks by key, exclusive among all processes that have the provider's directory open, and fair (first in, first out)
 * within this process. Each is SQLite's lock on a file in the directory; the kernel releases it when its holder ends.
 */
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import type { SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Effect, Option, Semaphore } from "effect"
import { randomInt } from "node:crypto"
import { closeSync, constants, fstatSync, openSync, rmSync, statSync } from "node:fs"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { attemptNow } from "./Host.ts"

/** Locks that this process holds or waits for, by file. */
const held = new Map<string, { readonly semaphore: Semaphore.Semaphore; users: number }>()

/** One at a time in this process. */
const inTurn =
  (file: string) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.suspend(() => {
      const lock = held.get(file) ?? { semaphore: Semaphore.makeUnsafe(1), users: 0 }
      lock.users++
      held.set(file, lock)
      return Effect.ensuring(
        lock.semaphore.withPermits(1)(effect),
        Effect.sync(() => {
          if (--lock.users === 0) held.delete(file)
        })
      )
    })

/** What SQLite answers where another has the lock. */
const busy = 5

/** Whether a path leads to the open file. */
const leadsTo = (file: string, descriptor: number): boolean => {
  const found = statSync(file, { bigint: true, throwIfNoEntry: false })
  const { dev, ino } = fstatSync(descriptor, { bigint: true })
  return found?.ino === ino && found.dev === dev
}

/**
 * Tries to take the lock on a file and returns its release; undefined while another process has it. The release of a
 * lock that is not `lasting` removes the file. Only a holder does that, so a file that still is at its path once it is
 * locked was there all along. The descriptor keeps its inode number from being used again until then.
 */
const taken = (file: string, lasting: boolean): (() => void) | undefined => {
  const descriptor = openSync(file, constants.O_RDWR | constants.O_CREAT, 0o600)
  let database: DatabaseSync | undefined
  // To close any descriptor of the file is to release this process's locks on it: the descriptor is closed last.
  const close = () => {
    database?.close()
    closeSync(descriptor)
  }
  try {
    database = new DatabaseSync(file, { timeout: 0 })
    database.exec("pragma journal_mode = memory; begin exclusive")
    if (leadsTo(file, descriptor)) {
      return () => {
        if (!lasting) rmSync(file, { force: true })
        close()
      }
    }
  } catch (cause) {
    if ((cause as { readonly errcode?: unknown }).errcode !== busy) {
      close()
      throw cause
    }
  }
  close()
  return undefined
}

/** Milliseconds between two tries: the first pause and the longest one. Each is cut at random so that two waiters never keep step. */
const soon = 2
const atMost = 20

type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

interface Place {
  readonly file: string
  /** Whether the file stays when the lock is released. */
  readonly lasting: boolean
}

/** Waits until the lock is free and takes it. Only the pauses are `interruptible`, so that no lock is held by nobody. */
const hold = Effect.fnUntraced(function* ({ file, lasting }: Place, interruptible: Restore) {
  let pause = soon
  while (true) {
    const release = yield* attemptNow("lock", () => taken(file, lasting))
    if (release !== undefined) return release
    yield* interruptible(Effect.sleep(randomInt(pause) + 1))
    pause = Math.min(2 * pause, atMost)
  }
})

export interface Locks {
  /** For each change of a sandbox. */
  readonly sandbox: (name: SandboxName) => Lock
  /**
   * For making a sandbox's chain of layers shorter, which may take minutes. Acquire it before the sandbox's lock. A holder
   * of the sandbox's lock does not need it.
   */
  readonly flattening: (name: SandboxName) => Lock
  /** As `flattening`; does nothing while the lock is held. */
  readonly ifNotFlattening: (
    name: SandboxName
  ) => <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<Option.Option<A>, E | SandboxUnavailable, R>
  /**
   * For the moment in which a sandbox is recorded as a user of layers, or an unused layer is moved away. All sandboxes
   * share it: hold it for a few system calls at most, and acquire it after any sandbox's lock.
   */
  readonly layers: Lock
  /** For making the directory ready. */
  readonly directory: Lock
}

type Lock = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | SandboxUnavailable, R>

/** The locks of a directory that holds nothing else. */
export const make = (directory: string): Locks => {
  const place = (name: string, lasting: boolean): Place => ({ file: join(directory, name), lasting })

  const lock =
    (place: Place): Lock =>
    (effect) =>
      inTurn(place.file)(
        Effect.uninterruptibleMask((restore) =>
          Effect.flatMap(hold(place, restore), (release) => Effect.ensuring(restore(effect), Effect.sync(release)))
        )
      )

  const flattening = (name: SandboxName) => place(`flat.${name}`, false)

  return {
    sandbox: (name) => lock(place(`name.${name}`, false)),
    flattening: (name) => lock(flattening(name)),
    ifNotFlattening: (name) => (effect) =>
      Effect.suspend(() => {
        const { file, lasting } = flattening(name)
        if (held.has(file)) return Effect.succeedNone
        return inTurn(file)(
          Effect.uninterruptibleMask((restore) =>
            Effect.flatMap(
              attemptNow("lock", () => taken(file, lasting)),
              (release) =>
                release === undefined
                  ? Effect.succeedNone
                  : Effect.asSome(Effect.ensuring(restore(effect), Effect.sync(release)))
            )
          )
        )
      }),
    layers: lock(place("layers", true)),
    directory: lock(place("directory", true))
  }
}
