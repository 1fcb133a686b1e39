import type { Account, AccountId } from "@castellan/domain/identity/Account.ts"
import { ApiKey, type ApiKeyId, type KeyDigest } from "@castellan/domain/identity/ApiKey.ts"
import { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { Effect, Layer, Option } from "effect"

/** Accounts and keys in memory. */
export const layer = Layer.sync(IdentityStore, () => {
  const accounts = new Map<AccountId, Account>()
  const keys = new Map<KeyDigest, ApiKey>()

  const digestOf = (id: ApiKeyId) => [...keys].find(([, key]) => key.id === id)?.[0]

  return IdentityStore.of({
    addAccount: (account) =>
      Effect.sync(() => {
        if (!accounts.has(account.id)) accounts.set(account.id, account)
      }),
    findAccount: (id) => Effect.sync(() => Option.fromUndefinedOr(accounts.get(id))),
    findPlatformAdmin: Effect.sync(() =>
      Option.fromUndefinedOr(
        [...accounts.values()]
          .filter((account) => account.platformAdmin)
          .sort((a, b) => a.createdAt.epochMilliseconds - b.createdAt.epochMilliseconds)[0]
      )
    ),
    addKey: (scope, key, digest) =>
      Effect.sync(() => {
        if (!keys.has(digest)) keys.set(digest, new ApiKey({ ...key, account: scope.account }))
      }),
    findKey: (digest) =>
      Effect.sync(() => {
        const key = keys.get(digest)
        const account = key && accounts.get(key.account)
        return key && account ? Option.some({ key, account }) : Option.none()
      }),
    listKeys: (scope) =>
      Effect.sync(() =>
        [...keys.values()]
          .filter((key) => key.account === scope.account)
          .sort((a, b) => b.createdAt.epochMilliseconds - a.createdAt.epochMilliseconds)
      ),
    removeKey: (scope, id) =>
      Effect.sync(() => {
        const digest = digestOf(id)
        return digest !== undefined && keys.get(digest)!.account === scope.account && keys.delete(digest)
      }),
    recordUse: (id, at) =>
      Effect.sync(() => {
        const digest = digestOf(id)
        const key = digest && keys.get(digest)
        if (!digest || !key) return
        const last = key.lastUsedAt?.epochMilliseconds ?? -Infinity
        if (last < at.epochMilliseconds) keys.set(digest, new ApiKey({ ...key, lastUsedAt: at }))
      })
  })
})
