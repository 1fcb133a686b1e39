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

/** The user of the test if it runs as root. That user may not have access to the project's directory. */
const nobody = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {}
const hasAccess =
  spawnSync(process.execPath, ["-e", `require("fs").accessSync(${JSON.stringify(program)})`], nobody).status === 0

const directory = Effect.acquireRelease(
  Effect.promise(async () => {
    const directory = await mkdtemp(join(tmpdir(), "castellan-unprivileged-"))
    if (nobody.uid !== undefined) await chown(directory, nobody.uid, nobody.gid)
    return directory
  }),
  (directory) => Effect.promise(() => rm(directory, { recursive: true, force: true }))
)

/** The output of a script in a sandbox of an unprivileged user. */
const outputOf = Effect.fnUntraced(function* (script: string, registry = "") {
  const args = [program, join(yield* directory, "local"), script, registry]
  const { stdout } = yield* Effect.promise(() => promisify(execFile)(process.execPath, args, nobody))
  // The provider may have logged lines before.
  return JSON.parse(stdout.slice(stdout.indexOf('{"stdout"'))) as { stdout: string; stderr: string; copied: string }
})

describe("The local provider without root", () => {
  it.live.skipIf(!hasAccess)("isolates the sandboxes of an unprivileged user and takes snapshots of them", () =>
    Effect.gen(function* () {
      const output = yield* outputOf(
        "id -u; echo hi > kept; touch /etc/mine && echo mine; touch /usr/x; cat /etc/shadow"
      )
      assert.deepStrictEqual([output.stdout, output.copied], ["1000\nmine\n", "hi\n"])
      assert.include(output.stderr, "/usr/x")
      assert.include(output.stderr, "/etc/shadow")
    }).pipe(Effect.scoped)
  )

  it.live.skipIf(!hasAccess)("gives the sandboxes of an unprivileged user access to the package registry", () =>
    Effect.gen(function* () {
      const { url } = yield* packageRegistry
      const { stdout } = yield* outputOf(`touch kept; ${install}`, url)
      assert.strictEqual(stdout.trim(), greeting)
    }).pipe(Effect.scoped)
  )
})
