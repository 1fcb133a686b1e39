import * as LocalSandbox from "@castellan/adapters/local/LocalSandbox.ts"
import type { LocalOptions } from "@castellan/adapters/local/Options.ts"
import { Effect, Layer } from "effect"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"

export const directory = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "castellan-local-"))),
  (directory) => Effect.promise(() => rm(directory, { recursive: true, force: true }))
)

/** The provider in a directory of its own. */
export const local = (options: Omit<LocalOptions, "directory"> = {}) =>
  Layer.unwrap(Effect.map(directory, (directory) => LocalSandbox.layer({ directory, ...options })))
