/** Installs the pinned npm into a layer for sandboxes that use it, when the first of them is created. */
import { SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Effect } from "effect"
import { execFile } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import { readdir, rename, rm } from "node:fs/promises"
import { createRequire } from "node:module"
import { dirname, join } from "node:path"
import { promisify } from "node:util"
import { attempt, attemptSync } from "../process/attempt.ts"
import type { Locks } from "../process/Locks.ts"
import { run } from "../process/Spawner.ts"
import { randomId } from "../storage/files.ts"
import type { Layout } from "../storage/Layout.ts"
import { packageMissing } from "../../process/optionalPackage.ts"

/** The directory of the package `npm`, which is an optional peer. */
const packageDirectory = () => {
  try {
    return dirname(createRequire(import.meta.url).resolve("npm/package.json"))
  } catch {
    throw packageMissing("npm", "give local sandboxes access to a package registry")
  }
}

/** The directory of npm in a sandbox's files. */
export const npmDirectory = "opt/castellan/npm"

/** The name of npm's layer. Each version has its own, because sandboxes may still use the old one. */
export const npmLayer = (): string => {
  const { version } = JSON.parse(readFileSync(join(packageDirectory(), "package.json"), "utf8")) as {
    readonly version: string
  }
  return `layer-npm-${version}`
}

/** The prefix of a copy that is not complete. */
const incompletePrefix = "next-npm-"

/**
 * Copies the package of npm `$1` into a new directory `$2`, links its programs into `bin`, and makes all readable. The
 * copy is on the disk before it gets its final name.
 */
const copyNpm = `
mkdir -p "$2/bin" && cp -R -- "$1" "$2/package" || exit 1
for program in npm npx; do ln -s "../package/bin/$program-cli.js" "$2/bin/$program" || exit 1; done
chmod -R a+rX "$2/../../.." && chmod a+x "$2"/package/bin/*-cli.js || exit 1
sync -f "$2" || sync
`

/** Installs npm unless it is installed, and returns its directory on the host. */
export const ensureInstalled = Effect.fnUntraced(function* (layout: Layout, locks: Locks) {
  const target = yield* attemptSync("npm", () => join(layout.runtime, npmLayer()))
  const install = Effect.gen(function* () {
    if (existsSync(target)) return
    yield* attempt("npm", async () => {
      const incomplete = (await readdir(layout.runtime)).filter((name) => name.startsWith(incompletePrefix))
      await Promise.allSettled(
        incomplete.map((name) => rm(join(layout.runtime, name), { recursive: true, force: true }))
      )
    })
    const next = join(layout.runtime, incompletePrefix + randomId())
    const copy = ["sh", "-c", copyNpm, "copy", packageDirectory(), join(next, npmDirectory)]
    const { code, stderr } = yield* run("npm", copy, { cwd: "/", user: false })
    if (code !== 0) return yield* new SandboxUnavailable({ operation: "npm", retryable: true, cause: stderr })
    yield* attempt("npm", () => rename(next, target))
  })
  if (!existsSync(target)) yield* locks.directory(install)
  return join(target, npmDirectory)
})

/**
 * The registry that npm on this host is configured to use. Unlike every other program, this one gets the server's
 * environment, which may configure npm.
 */
export const configuredRegistry: Effect.Effect<string, SandboxUnavailable> = attempt("npm", async (signal) => {
  const command = [join(packageDirectory(), "bin", "npm-cli.js"), "config", "get", "registry"]
  const { stdout } = await promisify(execFile)(process.execPath, command, { cwd: "/", timeout: 30_000, signal })
  return stdout.trim()
})
