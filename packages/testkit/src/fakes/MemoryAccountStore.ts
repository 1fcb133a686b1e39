import { AccountSandbox } from "@castellan/domain/account/AccountSandbox.ts"
import { AccountStore } from "@castellan/domain/account/AccountStore.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { Effect, Layer, Option } from "effect"
import { pageOf } from "./pageOf.ts"

/** Rows of accounts' sandboxes in memory. */
export const layer = Layer.sync(AccountStore, () => {
  const rows = new Map<SandboxName, AccountSandbox>()

  const own = (scope: { readonly account: string }, name: SandboxName) =>
    Option.filter(Option.fromUndefinedOr(rows.get(name)), (row) => row.account === scope.account)

  return AccountStore.of({
    add: (scope, sandbox) =>
      Effect.sync(() => {
        if (!rows.has(sandbox.name)) rows.set(sandbox.name, new AccountSandbox({ ...sandbox, account: scope.account }))
        return own(scope, sandbox.name)
      }),
    get: (scope, name) => Effect.sync(() => own(scope, name)),
    list: (scope, page) =>
      Effect.sync(() =>
        pageOf(
          [...rows.values()].filter((row) => row.account === scope.account),
          page,
          (row) => ({ at: row.createdAt.epochMilliseconds, id: row.name })
        )
      ),
    see: (scope, sightings) =>
      Effect.sync(() => {
        for (const { expiresAt, name, reason, status } of sightings) {
          const row = own(scope, name)
          if (Option.isSome(row)) rows.set(name, new AccountSandbox({ ...row.value, status, expiresAt, reason }))
        }
      }),
    listUnfinished: (before, limit) =>
      Effect.sync(() =>
        [...rows.values()]
          .filter((row) => row.status === "pending" && row.createdAt.epochMilliseconds < before.epochMilliseconds)
          .sort((a, b) => a.createdAt.epochMilliseconds - b.createdAt.epochMilliseconds)
          .slice(0, limit)
      )
  })
})
