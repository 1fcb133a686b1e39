/** Watches the data directory: whether it is the one that the server started with, and whether it takes what is written. */
import { Effect, Schedule } from "effect"
import { open, statfs, unlink } from "node:fs/promises"
import { join } from "node:path"
import { watchPath } from "./PathIdentity.ts"

/** How often a file is written to see whether that is possible. */
const probeEvery = "5 seconds"

/** How long that may take before the disk counts as one that does not answer. */
const patience = "30 seconds"

/** Bytes that must be free: less is soon gone, and a database needs room to start again. */
export const minFreeBytes = 64 * 1024 * 1024

const mebibytes = (bytes: number) => `${Math.floor(bytes / 1024 / 1024)} MiB`

const wordsOf = (cause: unknown): string => {
  const { code } = cause as { readonly code?: string }
  switch (code) {
    case "ENOSPC":
    case "EDQUOT":
      return "is full"
    case "ENOENT":
      return "is missing"
    default:
      return `can't be written (${code ?? "unknown reason"})`
  }
}

/** Writes a small file to the disk; gives what is wrong in words that follow "The data directory", if anything is. */
const probed = async (directory: string): Promise<string | undefined> => {
  const file = join(directory, `.castellan-probe-${process.pid}`)
  try {
    const handle = await open(file, "w", 0o600)
    try {
      await handle.writeFile("x".repeat(4096))
      await handle.sync()
    } finally {
      await handle.close()
      await unlink(file)
    }
    const { bavail, bsize } = await statfs(directory)
    const free = bavail * bsize
    return free < minFreeBytes ? `is nearly full: ${mebibytes(free)} are left` : undefined
  } catch (cause) {
    return wordsOf(cause)
  }
}

/**
 * Watches a directory for as long as the scope is open. `parts` are files or directories in it that only go if its content
 * does. The effect gives what is wrong with it by now, in words that follow "The data directory"; undefined if nothing is.
 */
export const watch = Effect.fnUntraced(function* (directory: string, parts: ReadonlyArray<string> = []) {
  const landmarks = yield* Effect.sync(() => [directory, ...parts].map(watchPath))
  let found: string | undefined
  let probing: Promise<string | undefined> | undefined

  /** One probe at a time: those on a disk that hangs would pile up. */
  const probe = Effect.promise(() => (probing ??= probed(directory).finally(() => (probing = undefined)))).pipe(
    Effect.timeoutOrElse({ duration: patience, orElse: () => Effect.succeed("does not answer") }),
    Effect.flatMap((now) => {
      const before = found
      found = now
      if (now === before) return Effect.void
      return now === undefined
        ? Effect.logInfo("The data directory can be written again", { directory })
        : Effect.logError(`The data directory ${now}`, { directory })
    })
  )

  yield* probe
  yield* Effect.forkScoped(Effect.repeat(probe, Schedule.spaced(probeEvery)))
  return Effect.sync(() => {
    try {
      for (const lost of landmarks) {
        const how = lost()
        if (how !== undefined) return how
      }
      return found
    } catch (cause) {
      return wordsOf(cause)
    }
  })
})
