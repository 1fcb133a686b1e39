/** Reads the output of a command from its files while they grow. */
import { type Output, OutputPosition } from "@castellan/domain/sandbox/Command.ts"
import { existsSync, type FSWatcher, watch } from "node:fs"
import { open } from "node:fs/promises"
import { join } from "node:path"

/** Bytes of one read. */
const chunkSize = 64 * 1024

/** Milliseconds until files are read again, in case the host's file watching reports nothing. */
export const pollEvery = 500

/** Milliseconds that the collectors have to write the rest of the pipes after a command's end. */
const drainTimeout = 1000

/** Milliseconds between two reads while the collectors write the rest. */
const drainPollEvery = 20

/** Waits for changes in a directory, at most for a given time. An abort counts as a change. */
export const watchDirectory = (directory: string, signal: AbortSignal) => {
  let wake: (() => void) | undefined
  let changed = false
  const onChange = () => {
    changed = true
    wake?.()
  }
  let watcher: FSWatcher | undefined
  try {
    watcher = watch(directory, onChange)
    watcher.on("error", () => watcher?.close())
  } catch {
    // Without file watching, `next` returns after its time limit.
  }
  signal.addEventListener("abort", onChange)
  return {
    next: async (timeout: number) => {
      if (!changed) {
        let timer: NodeJS.Timeout | undefined
        await new Promise<void>((resolve) => {
          wake = resolve
          timer = setTimeout(resolve, timeout)
        })
        clearTimeout(timer)
        wake = undefined
      }
      changed = false
    },
    close: () => {
      signal.removeEventListener("abort", onChange)
      watcher?.close()
    }
  }
}

/**
 * Streams the output from a position on. It ends when the command has ended and its pipes are empty, or when the signal aborts.
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
  const changes = watchDirectory(directory, signal)
  const position = { stdout: from.stdout, stderr: from.stderr }
  const chunk = Buffer.allocUnsafe(chunkSize)
  let endedSince: number | undefined
  try {
    while (!signal.aborted) {
      // Checked before the read, so that the read after the end gets everything.
      const ended = hasEnded(directory)
      const drained = ended && existsSync(join(directory, "drained"))
      for (const stream of ["stdout", "stderr"] as const) {
        while (true) {
          const { bytesRead } = await files[stream].read(chunk, 0, chunkSize, position[stream])
          if (bytesRead === 0) break
          position[stream] += bytesRead
          yield { stream, bytes: Uint8Array.from(chunk.subarray(0, bytesRead)), next: new OutputPosition(position) }
        }
      }
      if (drained) return
      // Background children may hold and fill the pipes forever. That is no longer the command's output.
      if (ended && performance.now() - (endedSince ??= performance.now()) >= drainTimeout) return
      await changes.next(ended ? drainPollEvery : pollEvery)
    }
  } finally {
    changes.close()
  }
}
