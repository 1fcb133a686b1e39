/** What a command prints, read from its files while they grow. */
import { type Output, OutputPosition } from "@castellan/domain/sandbox/Command.ts"
import { existsSync, type FSWatcher, watch } from "node:fs"
import { open } from "node:fs/promises"
import { join } from "node:path"

/** Bytes read at once. */
const chunkSize = 64 * 1024

/** Milliseconds after which a follower looks again, even if the host's file watching told it nothing. */
export const lookAgain = 500

/** Milliseconds that the collectors have, after a command's end, to write down what was still in the pipes. */
const drainWithin = 1000

/** Tells of changes in a directory, as far as the host can, and otherwise after a while. An abort counts as a change. */
export const watching = (directory: string, signal: AbortSignal) => {
  let wake: (() => void) | undefined
  let changed = false
  const notice = () => {
    changed = true
    wake?.()
  }
  let watcher: FSWatcher | undefined
  try {
    watcher = watch(directory, notice)
    watcher.on("error", () => watcher?.close())
  } catch {
    // Without watching, looking again does it.
  }
  signal.addEventListener("abort", notice)
  return {
    next: async (atMost: number) => {
      if (!changed) {
        let timer: NodeJS.Timeout | undefined
        await new Promise<void>((resolve) => {
          wake = resolve
          timer = setTimeout(resolve, atMost)
        })
        clearTimeout(timer)
        wake = undefined
      }
      changed = false
    },
    close: () => {
      signal.removeEventListener("abort", notice)
      watcher?.close()
    }
  }
}

/**
 * The output from a position on, as it appears. It is over when its command has ended and the pipes are empty, or when the
 * signal aborts.
 */
export async function* follow(
  directory: string,
  from: OutputPosition,
  hasEnded: (directory: string) => boolean,
  signal: AbortSignal
): AsyncGenerator<Output> {
  await using stdout = await open(join(directory, "out"), "r")
  await using stderr = await open(join(directory, "err"), "r")
  const files = { stdout, stderr }
  const changes = watching(directory, signal)
  const at = { stdout: from.stdout, stderr: from.stderr }
  const chunk = Buffer.allocUnsafe(chunkSize)
  let endedSince: number | undefined
  try {
    while (!signal.aborted) {
      // The end is looked for before the output, so that what is read after it is all there is.
      const ended = hasEnded(directory)
      const drained = ended && existsSync(join(directory, "drained"))
      for (const stream of ["stdout", "stderr"] as const) {
        while (true) {
          const { bytesRead } = await files[stream].read(chunk, 0, chunkSize, at[stream])
          if (bytesRead === 0) break
          at[stream] += bytesRead
          yield { stream, bytes: Uint8Array.from(chunk.subarray(0, bytesRead)), next: new OutputPosition(at) }
        }
      }
      if (drained) return
      // Children left behind may hold the pipes, and fill them, for ever; that is no longer the command's output.
      if (ended && performance.now() - (endedSince ??= performance.now()) >= drainWithin) return
      await changes.next(ended ? 20 : lookAgain)
    }
  } finally {
    changes.close()
  }
}
