import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { execFile, spawnSync } from "node:child_process"
import { chown, mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { greeting, install, packageRegistry } from "../network/packageRegistry.ts"

const program = fileURLToPath(new URL("./unprivileged.ts", import.meta.url))

/** As root the test becomes somebody else, who may not be let in to where the project lies. */
const nobody = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {}
const isLetIn =
  spawnSync(process.execPath, ["-e", `require("fs").accessSync(${JSON.stringify(program)})`], nobody).status === 0

const directory = Effect.acquireRelease(
  Effect.promise(async () => {
    const directory = await mkdtemp(join(tmpdir(), "castellan-unprivileged-"))
    if (nobody.uid !== undefined) await chown(directory, nobody.uid, nobody.gid)
    return directory
  }),
  (directory) => Effect.promise(() => rm(directory, { recursive: true, force: true }))
)

/** What a script printed in a sandbox of somebody who is not root. */
const printed = Effect.fnUntraced(function* (script: string, registry = "") {
  const args = [program, join(yield* directory, "local"), script, registry]
  const { stdout } = yield* Effect.promise(() => promisify(execFile)(process.execPath, args, nobody))
  return JSON.parse(stdout) as { stdout: string; stderr: string; copied: string }
})

describe("The local provider", () => {
  it.live.skipIf(!isLetIn)("needs no root: an ordinary user's sandboxes are isolated and have snapshots", () =>
    Effect.gen(function* () {
      const said = yield* printed("id -u; echo hi > kept; touch /etc/mine && echo mine; touch /usr/x; cat /etc/shadow")
      assert.deepStrictEqual([said.stdout, said.copied], ["1000\nmine\n", "hi\n"])
      assert.include(said.stderr, "/usr/x")
      assert.include(said.stderr, "/etc/shadow")
    }).pipe(Effect.scoped)
  )

  it.live.skipIf(!isLetIn)("needs no root: an ordinary user's sandboxes reach the registry", () =>
    Effect.gen(function* () {
      const { url } = yield* packageRegistry
      const { stdout } = yield* printed(`touch kept; ${install}`, url)
      assert.strictEqual(stdout.trim(), greeting)
    }).pipe(Effect.scoped)
  )
})
