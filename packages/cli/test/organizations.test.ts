import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { castellan } from "./castellanCommand.ts"
import { WebApi } from "../../http/test/WebApi.ts"

layer(WebApi.layer)("castellan orgs", (it) => {
  const join = Effect.flatMap(WebApi, (api) => api.join())

  it.effect("creates an organization, invites and accepts a member, lists both and leaves it", () =>
    Effect.gen(function* () {
      const owner = yield* join
      const member = yield* join
      const made = yield* castellan(["orgs", "create", "Analytical Engines"], owner)
      const [, org] = /^organization +(\S+)\nname +Analytical Engines\n$/.exec(made.stdout)!

      const invited = yield* castellan(["orgs", "invite", org!, member.account.id], owner)
      assert.match(invited.stdout, /^role +member\nstatus +invited$/m)
      assert.include(invited.stderr, `castellan orgs accept ${org}`)
      const before = yield* castellan(["orgs", "list"], member)
      assert.match(before.stdout, new RegExp(`^${org} +Analytical Engines +member +invited$`, "m"))
      const accepted = yield* castellan(["orgs", "accept", org!], member)
      assert.match(accepted.stdout, /^status +active$/m)

      const members = yield* castellan(["orgs", "members", org!], owner)
      assert.match(members.stdout, new RegExp(`^${owner.account.id} +owner +active$`, "m"))
      assert.match(members.stdout, new RegExp(`^${member.account.id} +member +active$`, "m"))

      const last = yield* castellan(["orgs", "remove", org!, owner.account.id], owner)
      assert.strictEqual(last.exit, 6)
      const left = yield* castellan(["orgs", "remove", org!, member.account.id], member)
      assert.deepStrictEqual([left.exit, left.stdout], [0, `${member.account.id} is no longer a member\n`])
      const none = yield* castellan(["orgs", "list"], member)
      assert.deepStrictEqual([none.stdout, none.stderr], ["", "castellan: no organizations\n"])
    })
  )

  it.effect("acts for another account with --account", () =>
    Effect.gen(function* () {
      const owner = yield* join
      const member = yield* join
      const made = yield* castellan(["orgs", "create", "Engines", "--json"], owner)
      const { id } = JSON.parse(made.stdout).organization
      yield* castellan(["orgs", "invite", id, member.account.id, "--role", "admin"], owner)
      const early = yield* castellan(["sandboxes", "create", "--account", owner.account.id], member)
      assert.deepStrictEqual([early.exit, early.stderr], [3, "castellan: Access denied to specified account_id\n"])
      yield* castellan(["orgs", "accept", id], member)
      const said = yield* castellan(["sandboxes", "create", "--account", id, "--", "echo", "ours"], member)
      assert.deepStrictEqual([said.exit, said.stdout], [0, "ours\n"])
    })
  )
})
