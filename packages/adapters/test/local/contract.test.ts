import * as LocalSandbox from "@castellan/adapters/local/LocalSandbox.ts"
import { contract } from "@castellan/testkit/contracts/SandboxProvider.ts"
import { inShell } from "@castellan/testkit/Program.ts"
import { Effect, Layer } from "effect"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"

const directory = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "castellan-local-"))),
  (directory) => Effect.promise(() => rm(directory, { recursive: true, force: true }))
)

const local = (options: Omit<LocalSandbox.LocalOptions, "directory">) =>
  Layer.unwrap(Effect.map(directory, (directory) => LocalSandbox.layer({ directory, ...options })))

contract("local namespaces", local({ outputKept: 256 * 1024 }), inShell)
