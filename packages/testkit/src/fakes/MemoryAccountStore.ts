import { AccountSandbox } from "@castellan/domain/account/AccountSandbox.ts"
import { AccountStore, SandboxQuotaReached } from "@castellan/domain/account/AccountStore.ts"
import type { AccountTotal } from "@castellan/domain/account/AccountTotal.ts"
import { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { type DateTime, Effect, Layer, Option } from "effect"
import * as MemoryIdentityStore from "./MemoryIdentityStore.ts"
import { pageOf } from "./pageOf.ts"

const isLive = ({ expiresAt, status }: AccountSandbox, now: DateTime.Utc) =>
  ["pending", "running", "stopping"].includes(status) &&
  (expiresAt === null || expiresAt.epochMilliseconds > now.epochMilliseconds)

/** When it was over: it expired, or, if it was never made, it was written. */
const endOf = ({ createdAt, expiresAt }: AccountSandbox) => (expiresAt ?? createdAt).epochMilliseconds

const make = (identities: IdentityStore["Service"]) => {
  const rows = new Map<SandboxName, AccountSandbox>()

  const own = (scope: { readonly account: string }, name: SandboxName) =>
    Option.filter(Option.fromUndefinedOr(rows.get(name)), (row) => row.account === scope.account)

  const of = (scope: { readonly account: string }) => [...rows.values()].filter((row) => row.account === scope.account)

  return AccountStore.of({
    add: (scope, sandbox, limit) =>
      Effect.suspend(() => {
        if (!rows.has(sandbox.name)) {
          if (of(scope).filter((row) => isLive(row, sandbox.createdAt)).length >= limit) {
            return Effect.fail(new SandboxQuotaReached({ account: scope.account, limit }))
          }
          rows.set(sandbox.name, new AccountSandbox({ ...sandbox, account: scope.account }))
        }
        return Effect.succeed(own(scope, sandbox.name))
      }),
    get: (scope, name) => Effect.sync(() => own(scope, name)),
    list: (scope, page) =>
      Effect.sync(() => pageOf(of(scope), page, (row) => ({ at: row.createdAt.epochMilliseconds, id: row.name }))),
    see: (scope, sightings) =>
      Effect.sync(() => {
        const recorded = new Set<SandboxName>()
        for (const { expiresAt, name, reason, status } of sightings) {
          const row = Option.filter(own(scope, name), ({ removedAt }) => removedAt === null)
          if (Option.isNone(row)) continue
          rows.set(name, new AccountSandbox({ ...row.value, status, expiresAt, reason }))
          recorded.add(name)
        }
        return recorded
      }),
    listUnfinished: (before, limit) =>
      Effect.sync(() =>
        [...rows.values()]
          .filter((row) => row.status === "pending" && row.createdAt.epochMilliseconds < before.epochMilliseconds)
          .sort((a, b) => a.createdAt.epochMilliseconds - b.createdAt.epochMilliseconds)
          .slice(0, limit)
      ),
    listKept: (scope, limit) =>
      Effect.sync(() =>
        of(scope)
          .filter((row) => row.removedAt === null)
          .sort((a, b) => a.createdAt.epochMilliseconds - b.createdAt.epochMilliseconds)
          .slice(0, limit)
      ),
    listExpired: (before, limit) =>
      Effect.sync(() =>
        [...rows.values()]
          .filter((row) => row.removedAt === null && row.status !== "pending" && endOf(row) < before.epochMilliseconds)
          .sort((a, b) => endOf(a) - endOf(b))
          .slice(0, limit)
      ),
    removed: (scope, names, at, reason) =>
      Effect.sync(() => {
        for (const row of of(scope)) {
          if (row.removedAt !== null || !names.includes(row.name)) continue
          const status = row.status === "failed" ? "failed" : "stopped"
          rows.set(row.name, new AccountSandbox({ ...row, status, removedAt: at, reason }))
        }
      }),
    totals: Effect.fnUntraced(function* (_, page) {
      const totals: Array<AccountTotal> = []
      for (const account of new Set([...rows.values()].map((row) => row.account))) {
        const owner = yield* identities.findAccount(account)
        const own = of({ account }).toSorted((a, b) => b.createdAt.epochMilliseconds - a.createdAt.epochMilliseconds)
        totals.push({
          account,
          email: Option.isSome(owner) ? owner.value.email : null,
          sandboxes: own.length,
          lastCreatedAt: own[0]!.createdAt
        })
      }
      return pageOf(totals, page, (total) => ({ at: total.lastCreatedAt.epochMilliseconds, id: total.account }))
    })
  })
}

/** Rows of accounts' sandboxes in memory. */
export const layer = Layer.effect(AccountStore, Effect.map(IdentityStore, make)).pipe(
  Layer.provide(MemoryIdentityStore.layer)
)
