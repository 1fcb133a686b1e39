import { AccountSandbox } from "@castellan/domain/account/AccountSandbox.ts"
import { AccountStore, changeCodeOf } from "@castellan/domain/account/AccountStore.ts"
import type { AccountTotal } from "@castellan/domain/account/AccountTotal.ts"
import type { ChangeCode } from "@castellan/domain/ChangeReason.ts"
import type { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { SandboxEvent } from "@castellan/domain/sandbox/SandboxEvent.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxQuotaReached } from "@castellan/domain/sandbox/SandboxQuota.ts"
import { DateTime, Effect, Layer, Option } from "effect"
import * as MemoryEventStore from "./MemoryEventStore.ts"
import * as MemoryIdentityStore from "./MemoryIdentityStore.ts"
import { pageOf } from "./pageOf.ts"

const isLive = ({ expiresAt, status }: AccountSandbox, now: DateTime.Utc) =>
  ["pending", "running", "stopping"].includes(status) &&
  (expiresAt === null || expiresAt.epochMilliseconds > now.epochMilliseconds)

/** When the sandbox expired or, if the provider never created it, when its row was written. */
const endOf = ({ createdAt, expiresAt }: AccountSandbox) => (expiresAt ?? createdAt).epochMilliseconds

const make = (identities: IdentityStore["Service"], events: MemoryEventStore.MemoryEvents["Service"]) => {
  const rows = new Map<SandboxName, AccountSandbox>()

  const own = (scope: { readonly account: string }, name: SandboxName) =>
    Option.filter(Option.fromUndefinedOr(rows.get(name)), (row) => row.account === scope.account)

  const of = (scope: { readonly account: string }) => [...rows.values()].filter((row) => row.account === scope.account)

  const tell = (
    scope: AccountScope,
    { account, name, reason }: AccountSandbox,
    now: AccountSandbox["status"] | "removed",
    code: ChangeCode,
    at: DateTime.Utc
  ) =>
    events.write(
      scope,
      new SandboxEvent({ account, type: `sandbox.${now}`, sandbox: name, session: null, code, reason, at })
    )

  return AccountStore.of({
    add: (scope, sandbox, limit) =>
      Effect.suspend(() => {
        if (!rows.has(sandbox.name)) {
          if (of(scope).filter((row) => isLive(row, sandbox.createdAt)).length >= limit) {
            return Effect.fail(new SandboxQuotaReached({ account: scope.account, limit }))
          }
          rows.set(sandbox.name, new AccountSandbox({ ...sandbox, account: scope.account }))
          tell(scope, sandbox, sandbox.status, "created", sandbox.createdAt)
        }
        return Effect.succeed(own(scope, sandbox.name))
      }),
    get: (scope, name) => Effect.sync(() => own(scope, name)),
    countLive: (now) => Effect.sync(() => [...rows.values()].filter((row) => isLive(row, now)).length),
    list: (scope, page) =>
      Effect.sync(() => pageOf(of(scope), page, (row) => ({ at: row.createdAt.epochMilliseconds, id: row.name }))),
    recordObserved: (scope, sightings) =>
      Effect.map(DateTime.now, (now) => {
        const recorded = new Set<SandboxName>()
        for (const state of sightings) {
          const { expiresAt, name, reason, status } = state
          const row = Option.filter(own(scope, name), ({ removedAt }) => removedAt === null)
          if (Option.isNone(row)) continue
          const seen = new AccountSandbox({ ...row.value, status, expiresAt, reason })
          rows.set(name, seen)
          if (status !== row.value.status) tell(scope, seen, status, changeCodeOf(state), now)
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
    recordRemoved: (scope, names, at, reason) =>
      Effect.sync(() => {
        for (const row of of(scope)) {
          if (row.removedAt !== null || !names.includes(row.name)) continue
          const status = row.status === "failed" ? "failed" : "stopped"
          const removed = new AccountSandbox({ ...row, status, removedAt: at, reason: reason.sentence })
          rows.set(row.name, removed)
          tell(scope, removed, "removed", reason.code, at)
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

/** Stores rows of accounts' sandboxes in memory. */
export const layer = Layer.effect(
  AccountStore,
  Effect.gen(function* () {
    return make(yield* IdentityStore, yield* MemoryEventStore.MemoryEvents)
  })
).pipe(Layer.provide([MemoryIdentityStore.layer, MemoryEventStore.layer]))
