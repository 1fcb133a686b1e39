import { AccountSandbox } from "@castellan/domain/account/AccountSandbox.ts"
import { AccountStore } from "@castellan/domain/account/AccountStore.ts"
import { EnvironmentStore } from "@castellan/domain/account/EnvironmentStore.ts"
import type { SnapshotKey } from "@castellan/domain/account/SnapshotRecord.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { KeyState, type IdempotencyKey, IdempotencyStore } from "@castellan/domain/identity/IdempotencyStore.ts"
import { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import type { Page } from "@castellan/domain/Page.ts"
import type { ImageKey } from "@castellan/domain/sandbox/BaseImage.ts"
import { BaseImageStore } from "@castellan/domain/sandbox/BaseImageStore.ts"
import { EventStore } from "@castellan/domain/sandbox/EventStore.ts"
import { EventCursor, SandboxEvent } from "@castellan/domain/sandbox/SandboxEvent.ts"
import { SandboxQuotaReached } from "@castellan/domain/sandbox/SandboxQuota.ts"
import { Lifecycle, Session, type SessionId } from "@castellan/domain/session/Session.ts"
import { SessionStore } from "@castellan/domain/session/SessionStore.ts"
import { TaskRunner, type RetryLater } from "@castellan/domain/task/TaskRunner.ts"
import { TaskRunStore } from "@castellan/domain/task/TaskRunStore.ts"
import { advance, hasEnded, TaskRun } from "@castellan/domain/task/TaskRun.ts"
import * as AccountContract from "@castellan/testkit/contracts/AccountStore/contract.ts"
import * as BaseImageContract from "@castellan/testkit/contracts/BaseImageStore/contract.ts"
import * as EnvironmentContract from "@castellan/testkit/contracts/EnvironmentStore/contract.ts"
import * as EventContract from "@castellan/testkit/contracts/EventStore/contract.ts"
import * as IdempotencyContract from "@castellan/testkit/contracts/IdempotencyStore/contract.ts"
import * as IdentityContract from "@castellan/testkit/contracts/IdentityStore/contract.ts"
import * as SessionContract from "@castellan/testkit/contracts/SessionStore/contract.ts"
import * as TaskRunnerContract from "@castellan/testkit/contracts/TaskRunner/contract.ts"
import * as TaskRunStoreContract from "@castellan/testkit/contracts/TaskRunStore/contract.ts"
import { allClauses } from "@castellan/testkit/contracts/contract.ts"
import { sabotage } from "@castellan/testkit/sabotage.ts"
import * as World from "@castellan/testkit/World.ts"
import { DateTime, Effect, Option, Result } from "effect"
import { late, none, withoutNul } from "./mutants.ts"

/** Fails for an invented cursor, as a database that casts its parts does. */
const knownCursor = ({ cursor }: Page) => (cursor === null ? Effect.void : Effect.die("no such place"))

sabotage(IdentityStore, World.layer, allClauses(IdentityContract.topics), {
  "an account is found as it was added": () => ({ findAccount: none }),
  "adding an account again does not change it": () => {
    const accounts = new Map()
    return {
      addAccount: (account) => Effect.sync(() => void accounts.set(account.id, account)),
      findAccount: (id) => Effect.sync(() => Option.fromUndefinedOr(accounts.get(id)))
    }
  },
  "findPlatformAdmin returns the oldest platform admin": () => ({ findPlatformAdmin: Effect.succeed(Option.none()) }),
  "a key is found by its digest with its account, whether or not it has expired": () => ({ findKey: none }),
  "adding a key with a known digest does not replace the first key": () => {
    const keys = new Map()
    return {
      addKey: (_, key, digest) => Effect.sync(() => void keys.set(digest, key)),
      findKey: (digest) => Effect.sync(() => Option.some({ key: keys.get(digest), account: keys.get(digest) }))
    }
  },
  "only the account's own keys are listed, newest first": (real) => ({
    listKeys: (scope) => Effect.map(real.listKeys(scope), (keys) => keys.toReversed())
  }),
  "a key is added for the scope's account even if it names another": (real) => ({
    addKey: (_, key, digest) => real.addKey(AccountScope.ofOwner(key), key, digest)
  }),
  "a key is removed once, and only in the scope of its account": () => ({ removeKey: () => Effect.succeed(true) }),
  "findExisting returns the given keys and accounts that are stored": () => ({
    findExisting: ({ accounts, keys }) => Effect.succeed({ accounts: new Set(accounts), keys: new Set(keys) })
  }),
  "a text with a NUL character can be written": (real) => ({
    removeKey: (scope, id) => Effect.andThen(withoutNul(id), real.removeKey(scope, id))
  }),
  "the last use of a key is recorded and never moves back": () => ({ recordUse: () => Effect.void }),
  "two accounts are tied by exactly the organizations that both belong to": (real) => ({
    relationshipBetween: (actor, target) =>
      Effect.map(real.relationshipBetween(actor, target), (ties) => ({
        ...ties,
        shared: ties.shared.filter(({ target }) => target !== "invited")
      }))
  }),
  "an organization is added with its first owner": (real) => ({
    addOrganization: (_, organization) => real.addAccount(organization)
  }),
  "adding an organization with a known id changes nothing": (real) => ({
    addOrganization: (scope, organization) =>
      real.addAccount(organization).pipe(
        Effect.andThen(
          real.changeMember(AccountScope.ofOwner({ account: organization.id }), {
            actor: scope.account,
            member: scope.account,
            at: organization.createdAt,
            decide: () => Result.succeed(Option.some({ role: "owner", status: "active" }))
          })
        ),
        Effect.asVoid
      )
  }),
  "only the account's own organizations are listed, in the order of membership": (real) => ({
    listOrganizations: (scope) =>
      Effect.map(real.listOrganizations(scope), (joined) =>
        joined.toSorted(
          (a, b) => a.organization.createdAt.epochMilliseconds - b.organization.createdAt.epochMilliseconds
        )
      )
  }),
  "a membership is found by its account and its organization": (real) => ({
    findMembership: (scope) =>
      Effect.map(real.listOrganizations(scope), ([first]) => Option.fromUndefinedOr(first?.membership))
  }),
  "only the members of the scope's organization are listed, in the order of membership": (real) => ({
    listMembers: (scope) => Effect.map(real.listMembers(scope), (members) => members.toReversed())
  }),
  "an invitation is accepted by its account only, and accepting it again is harmless": (real) => ({
    acceptMembership: (scope, organization) =>
      Effect.map(
        real.acceptMembership(scope, organization),
        Option.filter(({ status }) => status === "invited")
      )
  }),
  "a membership is changed as decided from its current value": (real) => ({
    changeMember: (scope, change) =>
      real.changeMember(scope, { ...change, decide: (seen) => change.decide({ ...seen, owners: 1 }) })
  }),
  "changing a membership keeps its creation date": (real) => ({
    changeMember: (scope, change) =>
      real
        .changeMember(scope, { ...change, decide: () => Result.succeed(Option.none()) })
        .pipe(Effect.andThen(real.changeMember(scope, change)))
  }),
  "a change that the decision rejects changes nothing": (real) => ({
    changeMember: (scope, change) =>
      real
        .changeMember(scope, { ...change, decide: () => Result.succeed(Option.none()) })
        .pipe(Effect.andThen(real.changeMember(scope, change)))
  }),
  "a write does not change any other key or membership": (real) => ({
    changeMember: (scope, change) =>
      Effect.gen(function* () {
        const changed = yield* real.changeMember(scope, change)
        const member = AccountScope.ofOwner({ account: change.member })
        // Also removes the member from other organizations.
        for (const { organization } of Option.isNone(changed) ? yield* real.listOrganizations(member) : []) {
          const all = AccountScope.ofOwner({ account: organization.id })
          yield* real.changeMember(all, { ...change, decide: () => Result.succeed(Option.none()) })
        }
        return changed
      })
  }),
  "concurrent changes are decided one after the other, each from the result of the previous": (real) => ({
    changeMember: Effect.fnUntraced(function* (scope, change) {
      const decided = yield* Effect.flip(
        real.changeMember(scope, { ...change, decide: (seen) => Result.fail(change.decide(seen)) })
      )
      yield* Effect.sleep("10 millis")
      return yield* real.changeMember(scope, { ...change, decide: () => decided })
    }) as typeof real.changeMember
  })
})

const first = (nonce: string) => Effect.succeed(KeyState.First({ nonce }))

sabotage(IdempotencyStore, World.layer, IdempotencyContract.clauses, {
  "the first request under a key is First and gets its own nonce": () => ({ begin: () => first("another") }),
  "of several concurrent requests one is First and the others find it InFlight": () => ({
    begin: (_, __, { nonce }) => first(nonce)
  }),
  "a request after the answer gets the saved answer": () => ({ answer: () => Effect.void }),
  "a different request under the key is Reused, before and after the answer": (real) => ({
    begin: (scope, key, asked) => real.begin(scope, key, { ...asked, request: "the same" })
  }),
  "a request whose lease has expired can be begun again once, with its first nonce": (real) => ({
    begin: (scope, key, asked) =>
      Effect.map(real.begin(scope, key, asked), (found) =>
        found._tag === "First" ? KeyState.First({ nonce: asked.nonce }) : found
      )
  }),
  "a request that was begun again expires with its first attempt": (real) => {
    let last: Parameters<typeof real.begin>[2] | undefined
    return {
      begin: (scope, key, asked) =>
        Effect.suspend(() => {
          const begun = last
          last = asked
          return begun === undefined || asked.request === begun.request
            ? real.begin(scope, key, asked)
            : Effect.succeed(KeyState.Reused())
        })
    }
  },
  "a request is InFlight as long as its lease is renewed": () => ({ renew: () => Effect.succeed(true) }),
  "an attempt that lost its key cannot renew the lease": () => ({ renew: () => Effect.succeed(true) }),
  "an attempt that lost its key can neither answer nor forget the request": (real) => {
    let newest: Parameters<typeof real.begin>[2]["at"] | undefined
    return {
      begin: (scope, key, asked) => real.begin(scope, key, { ...asked, at: (newest = asked.at) }),
      forget: (scope, key) => real.forget(scope, key, newest!)
    }
  },
  "a forgotten request frees its key": () => ({ forget: () => Effect.void }),
  "an answer expires": (real) => {
    let start: Parameters<typeof real.begin>[2]["at"] | undefined
    return { begin: (scope, key, asked) => real.begin(scope, key, { ...asked, at: (start ??= asked.at) }) }
  },
  "accounts do not share keys": (real) => {
    let shared: AccountScope | undefined
    return { begin: (scope, key, asked) => real.begin((shared ??= scope), key, asked) }
  },
  "a write does not change other keys of the account or the same key of another account": (real) => {
    const begun: Array<readonly [AccountScope, IdempotencyKey, DateTime.Utc]> = []
    return {
      begin: (scope, key, asked) => {
        begun.push([scope, key, asked.at])
        return real.begin(scope, key, asked)
      },
      forget: (scope) =>
        Effect.forEach(
          begun.filter(([{ account }]) => account === scope.account),
          ([scope, key, at]) => real.forget(scope, key, at),
          { discard: true }
        )
    }
  },
  "a sweep deletes old keys and returns their number": () => ({ sweep: () => Effect.succeed(0) })
})

sabotage(AccountStore, World.layer, allClauses(AccountContract.topics), {
  "a row is found as it was added": () => ({ get: none }),
  "adding a name twice returns the existing row": () => ({
    add: (_, sandbox) => Effect.succeed(Option.some(sandbox))
  }),
  "a name that belongs to another account is refused and unchanged": () => ({
    add: (_, sandbox) => Effect.succeed(Option.some(sandbox))
  }),
  "a row is added for the scope's account even if it names another": (real) => ({
    add: (_, sandbox, limit) => real.add(AccountScope.ofOwner(sandbox), sandbox, limit)
  }),
  "rows are listed newest first, in pages that have every row once": (real) => ({
    list: (scope, page) => real.list(scope, { ...page, cursor: null, limit: 100 })
  }),
  "a cursor later than every row returns the first page": (real) => ({
    list: (scope, page) => Effect.andThen(knownCursor(page), real.list(scope, page))
  }),
  "a text with a NUL character can be written": (real) => ({
    recordObserved: (scope, sightings) => Effect.andThen(withoutNul(sightings), real.recordObserved(scope, sightings))
  }),
  "observed states are recorded for the scope's account only": (real) => ({
    recordObserved: (scope, sightings) => real.recordObserved(scope, sightings.slice(0, 1))
  }),
  "an observation does not change a row whose files were removed": (real) => ({
    recordObserved: (scope, sightings) =>
      Effect.as(real.recordObserved(scope, sightings), new Set(sightings.map(({ name }) => name)))
  }),
  "listUnfinished returns the old pending rows of all accounts, oldest first, up to the limit": (real) => ({
    listUnfinished: (before) => real.listUnfinished(before, 100)
  }),
  "concurrent adds never exceed the account's limit of live sandboxes": (real) => ({
    add: Effect.fnUntraced(function* (scope, sandbox, limit) {
      const { length } = yield* real.listKept(scope, limit)
      yield* Effect.sleep("10 millis")
      if (length >= limit) return yield* new SandboxQuotaReached({ account: scope.account, limit })
      return yield* real.add(scope, sandbox, Infinity)
    })
  }),
  "a sandbox is live if it is pending, running or stopping and has not expired": (real) => ({
    add: (scope, sandbox, limit) =>
      real.add(scope, new AccountSandbox({ ...sandbox, createdAt: DateTime.makeUnsafe(0) }), limit)
  }),
  "adding an existing row succeeds for an account at its limit": (real) => ({
    add: Effect.fnUntraced(function* (scope, sandbox, limit) {
      const { length } = yield* real.listKept(scope, limit)
      if (length >= limit) return yield* new SandboxQuotaReached({ account: scope.account, limit })
      return yield* real.add(scope, sandbox, limit)
    })
  }),
  "listKept returns the account's rows whose files exist, oldest first, up to the limit": (real) => ({
    listKept: (scope, limit) => Effect.map(real.list(scope, { limit, cursor: null }), ({ rows }) => rows.toReversed())
  }),
  "listExpired returns the ended rows of all accounts whose files exist, longest ended first": (real) => ({
    listExpired: (before, limit) =>
      Effect.map(real.listExpired(before, limit), (rows) => rows.filter(({ expiresAt }) => expiresAt !== null))
  }),
  "the removal of files is recorded once, for the scope's account only": (real) => ({
    recordRemoved: (scope, names, at, reason) => real.recordRemoved(scope, names.slice(0, 1), at, reason)
  }),
  "a new row, each change of its status and the removal of its files emit one event each, and nothing else does": (
    real
  ) => ({
    recordObserved: (scope, sightings) =>
      Effect.andThen(
        real.recordObserved(
          scope,
          sightings.map((sighting) => ({ ...sighting, status: "stopping" as const }))
        ),
        real.recordObserved(scope, sightings)
      )
  }),
  "the event of a changed status has the code that was observed, or else the code of the status": (real) => ({
    recordObserved: (scope, sightings) =>
      real.recordObserved(
        scope,
        sightings.map(({ expiresAt, name, reason, status }) => ({ expiresAt, name, reason, status }))
      )
  }),
  "concurrent changes of many sandboxes emit every event": (real) => ({
    recordRemoved: (scope, names, at, reason) => real.recordRemoved(scope, names.slice(0, 1), at, reason)
  }),
  "countLive counts the live sandboxes of all accounts": () => ({ countLive: () => Effect.succeed(0) }),
  "totals lists all accounts by their newest sandbox, in pages that have every account once": (real) => ({
    totals: (proof, page) => real.totals(proof, { ...page, cursor: null })
  })
})

sabotage(EnvironmentStore, World.layer, allClauses(EnvironmentContract.topics), {
  "an environment is found as it was saved, by its account only": () => ({ get: none }),
  "saving changes the named fields only": (real) => ({
    save: (scope, change, now) => Effect.andThen(real.remove(scope), real.save(scope, change, now))
  }),
  "forget clears the saved snapshot only if it is the named one": (real) => ({
    forget: Effect.fnUntraced(function* (scope) {
      const saved = Option.flatMapNullishOr(yield* real.get(scope), ({ snapshot }) => snapshot)
      if (Option.isSome(saved)) yield* real.forget(scope, saved.value)
    })
  }),
  "a setup is claimed if there is none or the expected one is current, and the current one is returned": (real) => ({
    claimSetup: (scope, run, instead, now) =>
      Effect.flatMap(real.claimSetup(scope, run, instead, now), (current) =>
        real.claimSetup(scope, run, instead === null ? null : current, now)
      )
  }),
  "concurrent claims of a setup all return the same run": (real) => ({
    claimSetup: (scope, run, instead, now) =>
      late(
        Effect.map(real.get(scope), (known) => {
          const setup = Option.isSome(known) ? known.value.setup : null
          return setup !== null && setup !== instead
            ? Effect.succeed(setup)
            : Effect.as(Effect.andThen(real.remove(scope), real.claimSetup(scope, run, null, now)), run)
        })
      )
  }),
  "a setup's results are saved only while it is the account's current setup": (real) => ({
    saveSetup: (scope, _, change) => Effect.asSome(real.save(scope, change, DateTime.makeUnsafe(0)))
  }),
  "remove deletes the environment and returns it once, and keeps the snapshots": (real) => ({
    remove: Effect.fnUntraced(function* (scope) {
      for (const { key } of yield* real.listSnapshots(scope, null)) yield* real.deleteSnapshot(scope, key)
      return yield* real.remove(scope)
    })
  }),
  "reserving a key twice returns the existing snapshot": (real) => ({
    reserveSnapshot: (scope, snapshot) =>
      Effect.andThen(real.deleteSnapshot(scope, snapshot.key), real.reserveSnapshot(scope, snapshot))
  }),
  "a snapshot is reserved for the scope's account and without an id, even if it names others": (real) => ({
    reserveSnapshot: (_, snapshot) => real.reserveSnapshot(AccountScope.ofOwner(snapshot), snapshot)
  }),
  "a key that belongs to another account is refused and unchanged": (real) => {
    const owners = new Map<SnapshotKey, AccountScope>()
    return {
      reserveSnapshot: (scope, snapshot) => {
        const owner = owners.get(snapshot.key) ?? scope
        owners.set(snapshot.key, owner)
        return real.reserveSnapshot(owner, snapshot)
      }
    }
  },
  "another snapshot of a source is refused until the previous one is taken or dropped": (real) => ({
    reserveSnapshot: (scope, snapshot) =>
      Effect.flatMap(real.listSnapshots(scope, snapshot.source), ([one]) =>
        one === undefined ? real.reserveSnapshot(scope, snapshot) : Effect.succeed(Option.none())
      )
  }),
  "one of several concurrent reservations of a source succeeds": (real) => ({
    reserveSnapshot: (scope, snapshot) =>
      late(
        Effect.map(real.listSnapshots(scope, snapshot.source), ([one]) =>
          one === undefined
            ? Effect.as(real.reserveSnapshot(scope, snapshot), Option.some(snapshot))
            : Effect.succeed(Option.some(one))
        )
      )
  }),
  "the id of a taken snapshot is recorded while it is reserved, by its account only": (real) => ({
    completeSnapshot: (scope, key, id) => Effect.as(real.completeSnapshot(scope, key, id), true)
  }),
  "recording the same id again succeeds, and recording another id is refused": (real) => ({
    completeSnapshot: (scope, key, id) =>
      Effect.flatMap(real.findSnapshot(scope, id), (known) =>
        Option.isSome(known) ? Effect.succeed(false) : real.completeSnapshot(scope, key, id)
      )
  }),
  "a taken snapshot is found by its id, by its account only": () => ({ findSnapshot: none }),
  "only the account's own snapshots are listed, oldest first, of one source if it is named": (real) => ({
    listSnapshots: (scope) => real.listSnapshots(scope, null)
  }),
  "a snapshot is dropped by its account only, and dropping it again is harmless": () => ({
    deleteSnapshot: () => Effect.void
  }),
  "a write does not change any other environment or snapshot": (real) => ({
    // Also records the id for the account's other reserved snapshots.
    completeSnapshot: (scope, key, id) =>
      Effect.tap(real.completeSnapshot(scope, key, id), () =>
        Effect.flatMap(real.listSnapshots(scope, null), (all) =>
          Effect.forEach(
            all.filter((one) => one.id === null),
            (one) => real.completeSnapshot(scope, one.key, id)
          )
        )
      )
  }),
  "listUnneeded returns expired snapshots, those not taken in time, and temporary ones without an environment": (
    real
  ) => ({
    listUnneeded: (now, before, limit) =>
      Effect.map(real.listUnneeded(now, before, limit), (all) => all.filter(({ purpose }) => purpose !== "fork"))
  }),
  "a text with a NUL character can be written": (real) => ({
    saveSetup: (scope, run, change) => Effect.andThen(withoutNul(change), real.saveSetup(scope, run, change))
  })
})

const ownerOf = (store: SessionStore["Service"], id: SessionId, scope: AccountScope) =>
  Effect.map(store.ownerOf(id), (owner) =>
    Option.isSome(owner) ? AccountScope.ofOwner({ account: owner.value }) : scope
  )

/** Replaces a session whatever its version. */
const replace = (store: SessionStore["Service"], scope: AccountScope, before: Session, after: Session) =>
  Effect.andThen(store.remove(scope, before, after.updatedAt), store.add(scope, after))

sabotage(SessionStore, World.layer, allClauses(SessionContract.topics), {
  "a session is found as it was added, by its account only": () => ({ get: none }),
  "adding an id twice returns the existing row": () => ({
    add: (_, session) => Effect.succeed(Option.some(session))
  }),
  "an id that belongs to another account is refused and unchanged": (real) => ({
    add: (scope, session) => Effect.flatMap(ownerOf(real, session.id, scope), (owner) => real.add(owner, session))
  }),
  "a session is added for the scope's account even if it names another": (real) => ({
    add: (_, session) => real.add(AccountScope.ofOwner(session), session)
  }),
  "ownerOf returns the account of a session": () => ({ ownerOf: none }),
  "sessions that are not ephemeral are listed newest first, in pages that have every session once": (real) => ({
    list: (scope, page) => real.list(scope, { ...page, cursor: null, limit: 100 })
  }),
  "a cursor later than every row returns the first page": (real) => ({
    list: (scope, page) => Effect.andThen(knownCursor(page), real.list(scope, page))
  }),
  "a change sets the named fields only, for the session's account only, and keeps the version": (real) => ({
    change: (scope, id, change, now) =>
      Effect.flatMap(ownerOf(real, id, scope), (owner) => real.change(owner, id, change, now))
  }),
  "a change does not replace the status of an archived session or a repository that is set": (real) => ({
    change: Effect.fnUntraced(function* (scope, id, change, now) {
      const known = yield* real.get(scope, id)
      if (Option.isNone(known)) return known
      return yield* replace(real, scope, known.value, new Session({ ...known.value, ...change, updatedAt: now }))
    })
  }),
  "a transition is written only from the previous version and only in the scope of its account": (real) => ({
    compareAndSet: (scope, step) => Effect.as(real.compareAndSet(scope, step), true)
  }),
  "a transition stores the place of the working tree, and later transitions keep it": (real) => ({
    // Like a store that does not know the field.
    get: (scope, id) =>
      Effect.map(
        real.get(scope, id),
        Option.map((found) => {
          const lifecycle = new Lifecycle({ ...found.lifecycle, workspace: false })
          return new Session({ ...found, lifecycle })
        })
      )
  }),
  "one of several concurrent transitions from the same version is written and emits its event": (real) => ({
    compareAndSet: (scope, { after: session }) =>
      late(
        Effect.map(real.get(scope, session.id), (known) =>
          Option.isSome(known) && known.value.lifecycle.version === session.lifecycle.version - 1
            ? Effect.as(replace(real, scope, known.value, session), true)
            : Effect.succeed(false)
        )
      )
  }),
  "a transition keeps the fields outside the lifecycle, and the status unless it archives or unarchives": (real) => ({
    compareAndSet: (scope, step) => {
      const { id, title, updatedAt } = step.after
      return Effect.tap(real.compareAndSet(scope, step), real.change(scope, id, { title }, updatedAt))
    }
  }),
  "postpone moves the next check of an unchanged version, for its account only, and changes nothing else": (real) => ({
    setNextCheck: (scope, id, version, lookAt) => Effect.as(real.setNextCheck(scope, id, version, lookAt), true)
  }),
  "claimDue returns the due sessions of all accounts, longest due first, up to the limit": (real) => ({
    claimDue: (now, until) => real.claimDue(now, until, 100)
  }),
  "each due session goes to one of several concurrent claims": (real) => ({
    claimDue: (now, until, limit) => Effect.map(real.claimDue(now, until, limit), (due) => [...due, ...due])
  }),
  "listAwake returns the account's sessions whose sandbox runs or is about to run, ephemeral ones included": (
    real
  ) => ({
    countAwake: (scope) =>
      Effect.map(
        real.list(scope, { limit: 100, cursor: null }),
        ({ rows }) => rows.filter(({ lifecycle }) => lifecycle.state === "active").length
      )
  }),
  "a session is removed once, at its version, by its account only": (real) => ({
    remove: (scope, session, now) => Effect.as(real.remove(scope, session, now), true)
  }),
  "a write does not change any other session": (real) => ({
    // Also changes the account's other sessions.
    change: Effect.fnUntraced(function* (scope, id, change, now) {
      for (const other of (yield* real.list(scope, { limit: 100, cursor: null })).rows) {
        yield* real.change(scope, other.id, change, now)
      }
      return yield* real.get(scope, id)
    })
  }),
  "the creation, the visible transitions and the removal of a session emit one event each": (real) => ({
    add: (scope, session) =>
      Effect.flatMap(real.add(scope, session), (added) =>
        Option.isSome(added) ? replace(real, scope, session, session) : Effect.succeed(added)
      )
  }),
  "a text with a NUL character can be written": (real) => ({
    change: (scope, id, change, now) => Effect.andThen(withoutNul(change), real.change(scope, id, change, now))
  })
})

sabotage(EventStore, World.layer, EventContract.clauses, {
  "events are read by their account only, in order, in pages that have every event once": (real) => ({
    read: (scope, after, limit) =>
      real.read(scope, after === null ? null : EventCursor.make(`${Number(after) + 2}`), limit)
  }),
  "reading from the last cursor returns only newer events": (real) => ({
    read: (scope, after, limit) => (after === null ? real.read(scope, after, limit) : Effect.succeed([]))
  }),
  "reading from the latest cursor returns exactly the events that follow it": () => ({
    latest: () => Effect.succeed(EventCursor.make("0"))
  }),
  "a reader of concurrently written events misses none and sees each session's events in order": (real) => ({
    read: Effect.fnUntraced(function* (scope, after, limit) {
      const page = yield* real.read(scope, after, limit)
      const cursor = yield* real.latest(scope)
      return page.map(({ event }) => ({ event, cursor }))
    })
  }),
  "an event has the code and the sentence of its change": (real) => ({
    read: (scope, after, limit) =>
      Effect.map(real.read(scope, after, limit), (page) =>
        page.map(({ cursor, event }) => ({ event: new SandboxEvent({ ...event, code: null }), cursor }))
      )
  }),
  "a sweep deletes the events before a time for all accounts, and readers continue from their cursors": () => ({
    sweep: () => Effect.void
  }),
  "a text with a NUL character can be written": (real) => ({
    read: (scope, after, limit) => Effect.tap(real.read(scope, after, limit), withoutNul)
  })
})

const endOfTime = DateTime.makeUnsafe(8.64e15)

sabotage(BaseImageStore, World.layer, allClauses(BaseImageContract.topics), {
  "an image is found by its key as it was claimed, with the hour of its use": () => ({ find: none }),
  "an image may belong to no account": (real) => ({
    find: (key) =>
      Effect.map(
        real.find(key),
        Option.filter(({ account }) => account !== null)
      )
  }),
  "a claim returns the previous image with its abandoned builder": (real) => ({
    claimBuild: (claim, now) =>
      Effect.flatMap(real.claimBuild(claim, now), (before) =>
        Option.isSome(before) ? real.find(claim.key) : Effect.succeed(before)
      )
  }),
  "a claim is refused during a build, before the retry time of a failure, and while the image is not stale": (
    real
  ) => ({
    claimBuild: (claim, now) => real.claimBuild({ ...claim, staleBefore: endOfTime }, now)
  }),
  "one of several concurrent claims succeeds": (real) => ({
    claimBuild: (claim, now) =>
      late(
        Effect.map(real.find(claim.key), (known) =>
          Option.isNone(known) || known.value.leaseExpiresAt!.epochMilliseconds <= now.epochMilliseconds
            ? Effect.flatMap(real.claimBuild(claim, now), () => real.find(claim.key))
            : Effect.succeed(Option.none())
        )
      )
  }),
  "the current builder renews its lease, and no other builder does": (real) => ({
    renewLease: (key, builder, until) => Effect.as(real.renewLease(key, builder, until), true)
  }),
  "a finished build becomes current if its builder is, and the previous snapshot becomes replaced": (real) => ({
    completeBuild: (key, builder, snapshot, at) => Effect.as(real.completeBuild(key, builder, snapshot, at), true)
  }),
  "a failed build is recorded if its builder is current, and the last good snapshot stays": (real) => ({
    failBuild: (key, builder, error, retryAfter) =>
      Effect.flatMap(real.find(key), (known) =>
        real.failBuild(key, Option.getOrNull(known)?.builder ?? builder, error, retryAfter)
      )
  }),
  "a lost snapshot is no longer current and is not listed as replaced": (real) => ({
    markLost: (key, snapshot) =>
      Effect.flatMap(real.find(key), (known) => real.markLost(key, Option.getOrNull(known)?.current ?? snapshot))
  }),
  "use is recorded to the hour and never moves back": () => ({ recordUse: () => Effect.void }),
  "a write does not change any other image": (real) => {
    const keys = new Set<ImageKey>()
    return {
      claimBuild: (claim, now) =>
        Effect.andThen(
          Effect.sync(() => keys.add(claim.key)),
          real.claimBuild(claim, now)
        ),
      // Also records the use of all other images.
      recordUse: (_, at) =>
        Effect.suspend(() => Effect.forEach(keys, (key) => real.recordUse(key, at), { discard: true }))
    }
  },
  "listUnneeded returns images with replaced snapshots, expired builders or snapshots long unused": (real) => ({
    listUnneeded: (now, unusedSince) => real.listUnneeded(now, unusedSince, 100)
  }),
  "dropReplaced forgets the named replaced snapshot only": () => ({ dropReplaced: () => Effect.void }),
  "dropBuilder forgets the named builder once its lease has expired": (real) => ({
    dropBuilder: (key, builder) => real.dropBuilder(key, builder, endOfTime)
  }),
  "retire moves the snapshot of an image that is long unused to the replaced ones": (real) => ({
    retire: (key) => real.retire(key, endOfTime)
  }),
  "a text with a NUL character can be written": (real) => ({
    failBuild: (key, builder, error, retryAfter) =>
      Effect.andThen(withoutNul(error), real.failBuild(key, builder, error, retryAfter))
  })
})

sabotage(TaskRunStore, World.layer, TaskRunStoreContract.clauses, {
  "a run is found as it was enqueued, by its account only": () => ({ get: none }),
  "a run is saved with its status, log, output and error": () => ({ compareAndSet: () => Effect.succeed(true) }),
  "one of two concurrent writes from the same version is refused": () => ({
    compareAndSet: () => Effect.succeed(true)
  }),
  "liveIn returns the account's runs in a sandbox that have not ended, without their logs": (real) => ({
    liveIn: (scope, sandbox) =>
      Effect.map(real.liveIn(scope, sandbox), (runs) => runs.filter(({ status }) => status === "EXECUTING"))
  }),
  "a run of another account is not saved": (real) => ({
    compareAndSet: (_, applied) => real.compareAndSet(AccountScope.ofOwner(applied.after), applied)
  }),
  "a write does not change any other run": (real) => ({
    // Also saves the account's other runs at the same version.
    compareAndSet: Effect.fnUntraced(function* (scope, { after, expectedVersion }) {
      for (const other of (yield* real.list(scope, { limit: 100, cursor: null })).rows) {
        const same = advance(other, after.status, after.updatedAt)
        if (other.version === expectedVersion && Option.isSome(same)) yield* real.compareAndSet(scope, same.value)
      }
      return true
    })
  }),
  "runs are listed newest first without their output, in pages that have every run once": (real) => ({
    list: (scope, page) => Effect.map(real.list(scope, page), ({ next, rows }) => ({ rows: rows.toReversed(), next }))
  }),
  "a cursor later than every row returns the first page": (real) => ({
    list: (scope, page) => Effect.andThen(knownCursor(page), real.list(scope, page))
  }),
  "a text with a NUL character can be written": (real) => ({
    compareAndSet: (scope, applied) => Effect.andThen(withoutNul(applied.after), real.compareAndSet(scope, applied))
  })
})

type Work = (run: TaskRun) => Effect.Effect<void, RetryLater>

/** A runner that changes the work. */
const working = (change: (work: Work) => Work) => (real: TaskRunner["Service"]) => ({
  process: ((task, options, work) => real.process(task, options, change(work))) as typeof real.process
})

const twice = working((work) => (run) => Effect.andThen(work(run), work(run)))
const never = working(() => () => Effect.void)

sabotage(TaskRunner, World.layer, TaskRunnerContract.clauses, {
  "enqueueing a run several times delivers it once": twice,
  "an id that belongs to another account is refused, and nothing is written or queued": () => ({
    enqueue: () => Effect.void
  }),
  "a run is delivered with the current value of its row": working(
    (work) => (run) => (hasEnded(run) ? Effect.void : work(run))
  ),
  "a run is delivered to a worker that started before it was enqueued": never,
  "a run whose work succeeds is not delivered again": twice,
  "a run whose work fails with TryAgain is delivered again": working((work) => (run) => Effect.ignore(work(run))),
  "a run whose work dies is delivered again, and its worker continues": working(
    (work) => (run) => Effect.ignoreCause(work(run))
  ),
  "a run whose worker stops is delivered to the next worker": working(
    (work) => (run) => Effect.asVoid(Effect.forkDetach(work(run)))
  ),
  "a worker runs up to its concurrency at once, oldest run first": (real) => ({
    process: (task, _, work) => real.process(task, { concurrency: 100 }, work)
  }),
  "two workers share the runs of a task and never work on the same run at once": working(
    (work) => (run) => Effect.asVoid(Effect.all([work(run), work(run)], { concurrency: 2 }))
  ),
  "backlog counts the runs of each task that wait and can be worked on now": () => ({ backlog: Effect.succeed([]) }),
  "ping succeeds": () => ({ ping: Effect.die("silent") })
})
