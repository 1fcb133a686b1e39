import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { castellan, untilDone } from "./castellanCommand.ts"
import { WebApi } from "../../http/test/WebApi.ts"

layer(WebApi.layer)("castellan repo", (it) => {
  const join = Effect.flatMap(WebApi, (api) => api.join())

  it.effect("sets a repository up and prints each step, shows it, reads it and deletes it", () =>
    Effect.gen(function* () {
      const { key } = yield* join
      const before = yield* castellan(["sandboxes", "cat", "README.md"], { key })
      assert.deepStrictEqual(
        [before.exit, before.stderr],
        [4, "castellan: No GitHub repository found for this account\n"]
      )
      const set = yield* untilDone(yield* Effect.forkChild(castellan(["sandboxes", "setup"], { key })))
      assert.deepStrictEqual([set.exit, set.stderr], [0, ""])
      const lines = set.stdout.trimEnd().split("\n")
      const [repository, snapshot] = lines.slice(-2)
      assert.match(repository!, /^repository +https?:\/\/\S+$/)
      assert.match(snapshot!, /^snapshot +\S+$/)
      assert.strictEqual(lines.at(-3), "Done")
      assert.strictEqual(new Set(lines).size, lines.length, "each step once")
      assert.isAbove(lines.length, 5)

      const tree = yield* castellan(["sandboxes", "tree"], { key })
      assert.deepStrictEqual([tree.exit, tree.stdout, tree.stderr], [0, "README.md\n", ""])
      const file = yield* castellan(["sandboxes", "cat", "README.md"], { key })
      assert.match(file.stdout, /^# /)

      const cleared = yield* castellan(["sandboxes", "clear", "--yes"], { key })
      assert.match(cleared.stdout, /^deleted snapshot +\S+\ndeleted repository +http\S+\n$/)
      const again = yield* castellan(["sandboxes", "clear", "--yes"], { key })
      assert.deepStrictEqual(
        [again.exit, again.stdout],
        [0, "all sandboxes are stopped; there was no snapshot and no repository\n"]
      )
    })
  )

  it.effect("deletes the environment of the named account only", () =>
    Effect.gen(function* () {
      const admin = yield* Effect.flatMap(WebApi, (api) => api.join({ platformAdmin: true }))
      const other = yield* join
      const { key } = admin
      yield* castellan(["sandboxes", "create"], { key })
      yield* castellan(["sandboxes", "create"], other)
      yield* castellan(["sandboxes", "clear", "--yes", "--account", other.account.id], { key })
      const statuses = (text: string): ReadonlyArray<string> =>
        JSON.parse(text).sandboxes.map(({ sandboxStatus }: { sandboxStatus: string }) => sandboxStatus)
      const own = yield* castellan(["sandboxes", "list", "--json"], { key })
      assert.deepStrictEqual(statuses(own.stdout), ["running"])
      const theirs = yield* castellan(["sandboxes", "list", "--json"], other)
      assert.notInclude(statuses(theirs.stdout), "running")
    })
  )
})
