import { Environment } from "@castellan/domain/account/Environment.ts"
import { type EnvironmentChange, EnvironmentStore } from "@castellan/domain/account/EnvironmentStore.ts"
import { SnapshotRecord, type SnapshotKey } from "@castellan/domain/account/SnapshotRecord.ts"
import type { AccountId } from "@castellan/domain/identity/Account.ts"
import type { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { type DateTime, Effect, Layer, Option } from "effect"

const changed = (environment: Environment, { repo, snapshot }: EnvironmentChange) =>
  new Environment({
    ...environment,
    ...(snapshot && { snapshot: snapshot.id, expiresAt: snapshot.expiresAt }),
    ...(repo && { repo: repo.url, granted: repo.granted })
  })

const oldestFirst = (snapshots: ReadonlyArray<SnapshotRecord>) =>
  snapshots.toSorted((a, b) => a.startedAt.epochMilliseconds - b.startedAt.epochMilliseconds)

/** Stores environments and snapshot records in memory. */
export const layer = Layer.sync(EnvironmentStore, () => {
  const environments = new Map<AccountId, Environment>()
  const snapshots = new Map<SnapshotKey, SnapshotRecord>()

  const find = ({ account }: AccountScope) => Option.fromUndefinedOr(environments.get(account))

  const findOrMake = (scope: AccountScope, now: DateTime.Utc) =>
    Option.getOrElse(find(scope), () => {
      const nothing = { snapshot: null, expiresAt: null, repo: null, granted: false, setup: null }
      return new Environment({ account: scope.account, ...nothing, createdAt: now })
    })

  const put = (environment: Environment) => {
    environments.set(environment.account, environment)
    return environment
  }

  const of = ({ account }: AccountScope) => [...snapshots.values()].filter((snapshot) => snapshot.account === account)
  const own = (scope: AccountScope, key: SnapshotKey) =>
    Option.filter(Option.fromUndefinedOr(snapshots.get(key)), ({ account }) => account === scope.account)

  return EnvironmentStore.of({
    get: (scope) => Effect.sync(() => find(scope)),
    save: (scope, change, now) => Effect.sync(() => put(changed(findOrMake(scope, now), change))),
    forget: (scope, snapshot) =>
      Effect.sync(() => {
        const environment = find(scope)
        if (Option.isNone(environment) || environment.value.snapshot !== snapshot) return
        put(new Environment({ ...environment.value, snapshot: null, expiresAt: null }))
      }),
    claimSetup: (scope, run, instead, now) =>
      Effect.sync(() => {
        const environment = findOrMake(scope, now)
        const { setup } = environment
        if (setup !== null && setup !== instead) return setup
        put(new Environment({ ...environment, setup: run }))
        return run
      }),
    saveSetup: (scope, run, change) =>
      Effect.sync(() =>
        find(scope).pipe(
          Option.filter(({ setup }) => setup === run),
          Option.map((environment) => put(changed(environment, change)))
        )
      ),
    remove: (scope) =>
      Effect.sync(() => {
        const environment = find(scope)
        environments.delete(scope.account)
        return environment
      }),

    reserveSnapshot: (scope, snapshot) =>
      Effect.sync(() => {
        if (!snapshots.has(snapshot.key)) {
          if (of(scope).some(({ id, source }) => id === null && source === snapshot.source)) return Option.none()
          snapshots.set(snapshot.key, new SnapshotRecord({ ...snapshot, account: scope.account, id: null }))
        }
        return own(scope, snapshot.key)
      }),
    completeSnapshot: (scope, key, id) =>
      Effect.sync(() => {
        const wanted = Option.filter(own(scope, key), (snapshot) => snapshot.id === null || snapshot.id === id)
        if (Option.isSome(wanted)) snapshots.set(key, new SnapshotRecord({ ...wanted.value, id }))
        return Option.isSome(wanted)
      }),
    findSnapshot: (scope, id) =>
      Effect.sync(() => Option.fromUndefinedOr(of(scope).find((snapshot) => snapshot.id === id))),
    listSnapshots: (scope, source) =>
      Effect.sync(() => oldestFirst(of(scope).filter((snapshot) => source === null || snapshot.source === source))),
    deleteSnapshot: (scope, key) =>
      Effect.sync(() => {
        if (Option.isSome(own(scope, key))) snapshots.delete(key)
      }),
    listUnneeded: (now, before, limit) =>
      Effect.sync(() => {
        const saved = new Set([...environments.values()].map(({ snapshot }) => snapshot))
        return oldestFirst([...snapshots.values()])
          .filter(
            ({ expiresAt, id, purpose, startedAt }) =>
              expiresAt.epochMilliseconds < now.epochMilliseconds ||
              (startedAt.epochMilliseconds < before.epochMilliseconds &&
                (id === null || (purpose !== "manual" && !saved.has(id))))
          )
          .slice(0, limit)
      })
  })
})
