/** Watches that the data directory is still the one that the server started with, and that it can be written. */
import { Effect, Schedule } from "effect"
import { open, statfs, unlink } from "node:fs/promises"
import { join } from "node:path"
import { watchPath } from "./PathIdentity.ts"

/** How often a probe file is written. */
const probeInterval = "5 seconds"

/** How long a probe may take before the disk counts as hanging. */
const probeTimeout = "30 seconds"

/** Bytes that must be free. A database needs some space to start again. */
export const minFreeBytes = 64 * 1024 * 1024

const mebibytes = (bytes: number) => `${Math.floor(bytes / 1024 / 1024)} MiB`

const describeError = (cause: unknown): string => {
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

/** Writes a small file to the disk. Returns a problem, if there is one, in words that follow "The data directory". */
const writeProbe = async (directory: string): Promise<string | undefined> => {
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
    return describeError(cause)
  }
}

/**
 * Watches a directory until the scope closes. `parts` are files or directories in it that disappear only with its content.
 * The returned effect gives the present problem in words that follow "The data directory", or undefined.
 */
export const watch = Effect.fnUntraced(function* (directory: string, parts: ReadonlyArray<string> = []) {
  const pathChanges = yield* Effect.sync(() => [directory, ...parts].map(watchPath))
  let problem: string | undefined
  let probing: Promise<string | undefined> | undefined

  /** Only one probe runs at a time, because probes of a hanging disk would pile up. */
  const probe = Effect.promise(() => (probing ??= writeProbe(directory).finally(() => (probing = undefined)))).pipe(
    Effect.timeoutOrElse({ duration: probeTimeout, orElse: () => Effect.succeed("does not answer") }),
    Effect.flatMap((now) => {
      const before = problem
      problem = now
      if (now === before) return Effect.void
      return now === undefined
        ? Effect.logInfo("The data directory can be written again", { directory })
        : Effect.logError("The data directory can't be used", { directory, problem: now })
    })
  )

  yield* probe
  yield* Effect.forkScoped(Effect.repeat(probe, Schedule.spaced(probeInterval)))
  return Effect.sync(() => {
    try {
      for (const changeOf of pathChanges) {
        const change = changeOf()
        if (change !== undefined) return change
      }
      return problem
    } catch (cause) {
      return describeError(cause)
    }
  })
})
