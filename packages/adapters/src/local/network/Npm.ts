/** npm as it is pinned, for sandboxes that ask for it. Nothing is done for it before the first of them is made. */
import { SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Effect } from "effect"
import { execFile } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import { readdir, rename, rm } from "node:fs/promises"
import { createRequire } from "node:module"
import { dirname, join } from "node:path"
import { promisify } from "node:util"
import { attempt, attemptNow } from "../process/Host.ts"
import { fresh, type Layout } from "../sandbox/Layout.ts"
import type { Locks } from "../process/Locks.ts"
import { copyNpm } from "../isolation/scripts.ts"
import { run } from "../process/Spawner.ts"

/** Where the package lies. */
const source = () => dirname(createRequire(import.meta.url).resolve("npm/package.json"))

/** Where sandboxes that have npm see it. */
export const npmInside = "opt/castellan/npm"

/** The name of the layer that holds it. A new version lies beside the old one, which may be in use. */
export const npmLayer = (): string => {
  const { version } = JSON.parse(readFileSync(join(source(), "package.json"), "utf8")) as { readonly version: string }
  return `layer-npm-${version}`
}

/** What a copy is called that is not whole yet. */
const unfinished = "next-npm-"

/** Puts npm where sandboxes can be given it, unless it is there; gives the place. */
export const placed = Effect.fnUntraced(function* (layout: Layout, locks: Locks) {
  const target = yield* attemptNow("npm", () => join(layout.runtime, npmLayer()))
  const copied = Effect.gen(function* () {
    if (existsSync(target)) return
    yield* attempt("npm", async () => {
      const left = (await readdir(layout.runtime)).filter((name) => name.startsWith(unfinished))
      await Promise.allSettled(left.map((name) => rm(join(layout.runtime, name), { recursive: true, force: true })))
    })
    const next = join(layout.runtime, unfinished + fresh())
    const copy = ["sh", "-c", copyNpm, "copy", source(), join(next, npmInside)]
    const { code, stderr } = yield* run("npm", copy, { cwd: "/", user: false })
    if (code !== 0) return yield* new SandboxUnavailable({ operation: "npm", retryable: true, cause: stderr })
    yield* attempt("npm", () => rename(next, target))
  })
  if (!existsSync(target)) yield* locks.directory(copied)
  return join(target, npmInside)
})

/**
 * The registry that npm on this machine is set up to use. This one program of ours has the server's own environment,
 * since that may say so.
 */
export const configuredRegistry: Effect.Effect<string, SandboxUnavailable> = attempt("npm", async (signal) => {
  const command = [join(source(), "bin", "npm-cli.js"), "config", "get", "registry"]
  const { stdout } = await promisify(execFile)(process.execPath, command, { cwd: "/", timeout: 30_000, signal })
  return stdout.trim()
})
