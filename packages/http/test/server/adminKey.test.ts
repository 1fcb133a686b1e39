import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { readdir } from "node:fs/promises"
import { castellanOver } from "../../../cli/test/castellanCommand.ts"
import { dataDirectory, killed, listening, usedDirectory } from "./serverProcess.ts"

const castellan = (env: Record<string, string>, ...args: ReadonlyArray<string>) =>
  castellanOver(() => assert.fail("The command asked a server"), args, { env })

const statusOf = (url: string, key: string) =>
  Effect.promise(async () => (await fetch(`${url}/api/keys`, { headers: { "x-api-key": key } })).status)

describe("castellan admin-key", () => {
  it.live("replaces the first key after the server has ended, even by SIGKILL", () =>
    Effect.gen(function* () {
      const environment = { CASTELLAN_DATA_DIR: yield* usedDirectory }
      const first = yield* listening(environment)
      const refused = yield* castellan(environment, "admin-key", "--reset")
      assert.deepStrictEqual(refused, {
        exit: 6,
        stdout: "",
        stderr: `castellan: a server or another reset uses ${environment.CASTELLAN_DATA_DIR}: stop the server, then reset the key\n`
      })
      assert.strictEqual(yield* statusOf(first.url, first.key!), 200)
      yield* killed(first)

      const said = yield* castellan(environment, "admin-key", "--reset")
      assert.strictEqual(said.exit, 0)
      assert.match(said.stdout, /^cst_[a-z0-9]{40}\n$/)
      const again = yield* castellan(environment, "--json", "admin-key", "--reset")
      const { key } = JSON.parse(again.stdout)

      const second = yield* listening(environment)
      assert.isUndefined(second.key)
      assert.deepStrictEqual(
        yield* Effect.forEach([first.key!, said.stdout.trim(), key], (key) => statusOf(second.url, key)),
        [401, 200, 200]
      )
      assert.match(again.stderr, /other keys of the platform admin are still valid; .*: key_\w+ \(reset key\)\n$/)
    }).pipe(Effect.scoped)
  )

  it.live("fails without creating a database if no server has started there, and says what to do", () =>
    Effect.gen(function* () {
      const CASTELLAN_DATA_DIR = yield* dataDirectory
      const { exit, stderr, stdout } = yield* castellan({ CASTELLAN_DATA_DIR }, "admin-key", "--reset")
      assert.deepStrictEqual([exit, stdout], [2, ""])
      assert.include(stderr, `castellan: there is no database in ${CASTELLAN_DATA_DIR}: `)
      assert.deepStrictEqual(yield* Effect.promise(() => readdir(CASTELLAN_DATA_DIR)), [])
    }).pipe(Effect.scoped)
  )

  it.live("requires --reset, because a key can't be shown again", () =>
    Effect.gen(function* () {
      const { exit, stderr } = yield* castellan({}, "admin-key")
      assert.deepStrictEqual(
        [exit, stderr],
        [2, "castellan: an existing key can't be shown again: use --reset to make a new one\n"]
      )
    })
  )
})
