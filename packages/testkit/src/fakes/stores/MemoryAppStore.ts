import { createdEvent } from "@castellan/domain/app/AppLifecycle.ts"
import { AppSandbox, isActive } from "@castellan/domain/app/AppSandbox.ts"
import { AppStore } from "@castellan/domain/app/AppStore.ts"
import type { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { Effect, Layer, Option } from "effect"
import { claimDueRows } from "./dueRows.ts"
import * as MemoryEventStore from "./MemoryEventStore.ts"

const make = (events: MemoryEventStore.MemoryEvents["Service"]) => {
  const rows = new Map<SandboxName, AppSandbox>()

  const put = (app: AppSandbox) => {
    rows.set(app.name, app)
    return app
  }

  const own = (scope: AccountScope, name: SandboxName) =>
    Option.filter(Option.fromUndefinedOr(rows.get(name)), ({ account }) => account === scope.account)

  const of = (scope: AccountScope) => [...rows.values()].filter(({ account }) => account === scope.account)

  const find = (scope: AccountScope, is: (app: AppSandbox) => boolean) => Option.fromUndefinedOr(of(scope).find(is))

  return AppStore.of({
    begin: (scope, app) =>
      Effect.sync(() => {
        if (rows.has(app.name)) return own(scope, app.name)
        const starting = find(scope, ({ state }) => state === "starting")
        if (Option.isSome(starting)) return starting
        const begun = put(new AppSandbox({ ...app, account: scope.account }))
        events.write(scope, createdEvent(begun))
        return Option.some(begun)
      }),
    get: (scope, name) => Effect.sync(() => own(scope, name)),
    ownerOf: (name) => Effect.sync(() => Option.fromUndefinedOr(rows.get(name)?.account)),
    active: (scope) => Effect.sync(() => find(scope, isActive)),
    listLive: (scope) =>
      Effect.sync(() =>
        of(scope)
          .filter(({ state }) => state !== "ended")
          .sort((a, b) => a.createdAt.epochMilliseconds - b.createdAt.epochMilliseconds)
      ),
    compareAndSet: (scope, transitions) =>
      Effect.sync(() => {
        const next = new Map(
          transitions.map(({ after }) => [after.name, new AppSandbox({ ...after, account: scope.account })])
        )
        const isExpected = transitions.every(({ after, expectedVersion }) =>
          Option.exists(own(scope, after.name), ({ version }) => version === expectedVersion)
        )
        const active = of(scope).filter((app) => isActive(next.get(app.name) ?? app))
        if (next.size < transitions.length || !isExpected || active.length > 1) return false
        for (const app of next.values()) put(app)
        for (const { event } of transitions) if (event !== null) events.write(scope, event)
        return true
      }),
    claimDue: (now, leaseExpiresAt, limit) =>
      Effect.sync(() =>
        claimDueRows(
          rows.values(),
          ({ nextCheckAt }) => nextCheckAt,
          now,
          limit,
          (app) => put(new AppSandbox({ ...app, nextCheckAt: leaseExpiresAt }))
        )
      )
  })
}

/** Stores apps of accounts in memory. */
export const layer = Layer.effect(AppStore, Effect.map(MemoryEventStore.MemoryEvents, make)).pipe(
  Layer.provide(MemoryEventStore.layer)
)
