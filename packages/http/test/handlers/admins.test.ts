import { AccountStore } from "@castellan/domain/account/AccountStore.ts"
import { AccountSandbox } from "@castellan/domain/account/AccountSandbox.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { assert, layer } from "@effect/vitest"
import { DateTime, Effect } from "effect"
import { WebApi } from "../WebApi.ts"

layer(WebApi.layer)("The sandbox totals for platform admins", (it) => {
  const ask = (...args: Parameters<WebApi["Service"]["ask"]>) => Effect.flatMap(WebApi, (api) => api.ask(...args))
  const join = (more?: { readonly platformAdmin?: boolean }) => Effect.flatMap(WebApi, (api) => api.join(more))

  /** An account with sandboxes that were created at these seconds. */
  const having = Effect.fnUntraced(function* (seconds: ReadonlyArray<number>) {
    const { account, key } = yield* join()
    const store = yield* AccountStore
    for (const second of seconds) {
      const sandbox = new AccountSandbox({
        name: SandboxName.make(`sbx_${account.id}_${second}`),
        account: account.id,
        status: "failed",
        createdAt: DateTime.makeUnsafe(second * 1000),
        expiresAt: null,
        reason: null,
        removedAt: null
      })
      yield* store.add(AccountScope.ofOwner(sandbox), sandbox, 100)
    }
    return { account, key }
  })

  it.effect("list how many sandboxes each account has created, newest first, in pages", () =>
    Effect.gen(function* () {
      const admin = yield* join({ platformAdmin: true })
      const [one, two, three] = yield* Effect.all([having([1, 9]), having([10]), having([8, 2, 3])])
      const first = yield* ask("GET", "/api/admins/sandboxes?limit=2", { key: admin.key })
      const row = (account: string, total: number, last: string) => ({
        account_id: account,
        account_email: null,
        total_sandboxes: total,
        last_created_at: `1970-01-01T00:00:${last}.000Z`
      })
      assert.strictEqual(first.status, 200)
      const { accounts, next_cursor, status } = first.json
      assert.deepStrictEqual(
        [status, accounts],
        ["success", [row(two.account.id, 1, "10"), row(one.account.id, 2, "09")]]
      )
      const second = yield* ask("GET", `/api/admins/sandboxes?limit=2&cursor=${next_cursor}`, { key: admin.key })
      assert.deepStrictEqual(second.json, { status: "success", accounts: [row(three.account.id, 3, "08")] })
      const refused = yield* ask("GET", "/api/admins/sandboxes", { key: one.key })
      assert.deepStrictEqual([refused.status, refused.json.error], [403, "Forbidden"])
      const wrong = yield* ask("GET", "/api/admins/sandboxes?limit=0", { key: admin.key })
      assert.deepStrictEqual([wrong.status, wrong.json.error], [400, "limit must be an integer between 1 and 100"])
    })
  )

  it.effect("are refused to members of any role", () =>
    Effect.gen(function* () {
      const { key } = yield* join()
      yield* ask("POST", "/api/organizations", { key, body: { name: "Mine" } })
      assert.strictEqual((yield* ask("GET", "/api/admins/sandboxes", { key })).status, 403)
    })
  )
})
