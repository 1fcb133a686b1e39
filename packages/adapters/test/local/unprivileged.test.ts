import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { execFile, spawnSync } from "node:child_process"
import { chown, mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"

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

describe("The local provider", () => {
  it.live.skipIf(!isLetIn)("needs no root: an ordinary user's sandboxes are isolated and have snapshots", () =>
    Effect.gen(function* () {
      const script = "id -u; echo hi > kept; touch /etc/mine && echo mine; touch /usr/x; cat /etc/shadow"
      const args = [program, join(yield* directory, "local"), script]
      const { stdout } = yield* Effect.promise(() => promisify(execFile)(process.execPath, args, nobody))
      const said = JSON.parse(stdout) as { stdout: string; stderr: string; copied: string }
      assert.deepStrictEqual([said.stdout, said.copied], ["1000\nmine\n", "hi\n"])
      assert.include(said.stderr, "/usr/x")
      assert.include(said.stderr, "/etc/shadow")
    }).pipe(Effect.scoped)
  )
})
