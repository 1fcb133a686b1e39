/** Temporary directories, and the local provider in one. */
import * as LocalSandbox from "@castellan/adapters/local/LocalSandbox.ts"
import type { LocalOptions } from "@castellan/adapters/local/Options.ts"
import { Effect, Layer } from "effect"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"

export const temporaryDirectory = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "castellan-local-"))),
  (directory) => Effect.promise(() => rm(directory, { recursive: true, force: true }))
)

/** The local provider in a temporary directory. */
export const localProvider = (options: Omit<LocalOptions, "directory"> = {}) =>
  Layer.unwrap(Effect.map(temporaryDirectory, (directory) => LocalSandbox.layer({ directory, ...options })))
