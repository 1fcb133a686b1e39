/**
 * Locks by key among all processes that have the provider's directory open; first in, first out within this process. Each
 * is SQLite's lock on a file of the directory, which the kernel releases when the holder ends.
 */
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import type { SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Effect, Option, Semaphore } from "effect"
import { randomInt } from "node:crypto"
import { closeSync, constants, fstatSync, openSync, rmSync, statSync } from "node:fs"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { attemptSync } from "./attempt.ts"

/** The locks that fibers of this process hold or wait for, by file. */
const inUse = new Map<string, { readonly semaphore: Semaphore.Semaphore; users: number }>()

/** Excludes other fibers of this process. */
const exclusiveInProcess =
  (file: string) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.suspend(() => {
      const lock = inUse.get(file) ?? { semaphore: Semaphore.makeUnsafe(1), users: 0 }
      lock.users++
      inUse.set(file, lock)
      return Effect.ensuring(
        lock.semaphore.withPermits(1)(effect),
        Effect.sync(() => {
          if (--lock.users === 0) inUse.delete(file)
        })
      )
    })

/** SQLite's error code while another process holds the lock (`SQLITE_BUSY`). */
const busy = 5

/** Whether the path still names the open file. */
const isSameFile = (file: string, descriptor: number): boolean => {
  const found = statSync(file, { bigint: true, throwIfNoEntry: false })
  const { dev, ino } = fstatSync(descriptor, { bigint: true })
  return found?.ino === ino && found.dev === dev
}

/**
 * Tries to lock a file and returns its release; undefined while another process holds the lock. Releasing a lock that is
 * not `permanent` removes the file. Only a holder removes it, so a file that is still at its path after it was locked was
 * there all along. The open descriptor keeps the inode number from being reused until then.
 */
const tryLock = (file: string, permanent: boolean): (() => void) | undefined => {
  const descriptor = openSync(file, constants.O_RDWR | constants.O_CREAT, 0o600)
  let database: DatabaseSync | undefined
  // Closing any descriptor of the file releases this process's locks on it, so the descriptor is closed last.
  const close = () => {
    database?.close()
    closeSync(descriptor)
  }
  try {
    database = new DatabaseSync(file, { timeout: 0 })
    database.exec("pragma journal_mode = memory; begin exclusive")
    if (isSameFile(file, descriptor)) {
      return () => {
        if (!permanent) rmSync(file, { force: true })
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

/** Bounds of the pause between two attempts, in milliseconds. Each pause is random, so that two waiters do not keep step. */
const firstPause = 2
const longestPause = 20

type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

interface LockFile {
  readonly file: string
  /** Whether the file stays when the lock is released. */
  readonly permanent: boolean
}

/** Waits for the lock. Only the pauses are `interruptible`, so that every lock that was taken is released. */
const acquire = Effect.fnUntraced(function* ({ file, permanent }: LockFile, interruptible: Restore) {
  let pause = firstPause
  while (true) {
    const release = yield* attemptSync("lock", () => tryLock(file, permanent))
    if (release !== undefined) return release
    yield* interruptible(Effect.sleep(randomInt(pause) + 1))
    pause = Math.min(2 * pause, longestPause)
  }
})

type Lock = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | SandboxUnavailable, R>

const lock =
  (lockFile: LockFile): Lock =>
  (effect) =>
    exclusiveInProcess(lockFile.file)(
      Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(acquire(lockFile, restore), (release) => Effect.ensuring(restore(effect), Effect.sync(release)))
      )
    )

/** Runs the effect if the lock is free; otherwise gives `none`. */
const ifFree =
  ({ file, permanent }: LockFile) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<Option.Option<A>, E | SandboxUnavailable, R> =>
    Effect.suspend(() => {
      if (inUse.has(file)) return Effect.succeedNone
      return exclusiveInProcess(file)(
        Effect.uninterruptibleMask((restore) =>
          Effect.flatMap(
            attemptSync("lock", () => tryLock(file, permanent)),
            (release) =>
              release === undefined
                ? Effect.succeedNone
                : Effect.asSome(Effect.ensuring(restore(effect), Effect.sync(release)))
          )
        )
      )
    })

export interface Locks {
  /** Guards every change of a sandbox. */
  readonly sandbox: (name: SandboxName) => Lock
  /**
   * Guards the flattening of a sandbox's layers, which may take minutes. Acquire it before the sandbox's lock; a holder of
   * the sandbox's lock does not need it.
   */
  readonly flattening: (name: SandboxName) => Lock
  /** As `flattening`, but gives `none` while the lock is held. */
  readonly ifNotFlattening: (
    name: SandboxName
  ) => <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<Option.Option<A>, E | SandboxUnavailable, R>
  /**
   * Guards the moment when a sandbox is recorded as a user of layers, or an unused layer is moved to the trash. All
   * sandboxes share it: hold it for a few system calls at most, and acquire it after any sandbox's lock.
   */
  readonly layers: Lock
  /** Guards the preparation of the data directory. */
  readonly directory: Lock
}

/** The locks in a directory that contains nothing else. */
export const make = (directory: string): Locks => {
  const lockFile = (name: string, permanent: boolean): LockFile => ({ file: join(directory, name), permanent })
  const flattening = (name: SandboxName) => lockFile(`flat.${name}`, false)
  return {
    sandbox: (name) => lock(lockFile(`name.${name}`, false)),
    flattening: (name) => lock(flattening(name)),
    ifNotFlattening: (name) => ifFree(flattening(name)),
    layers: lock(lockFile("layers", true)),
    directory: lock(lockFile("directory", true))
  }
}
