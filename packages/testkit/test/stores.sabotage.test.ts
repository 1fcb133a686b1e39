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
import { EventCursor } from "@castellan/domain/sandbox/SandboxEvent.ts"
import { SandboxQuotaReached } from "@castellan/domain/sandbox/SandboxQuota.ts"
import { Lifecycle, Session, type SessionId } from "@castellan/domain/session/Session.ts"
import { SessionStore } from "@castellan/domain/session/SessionStore.ts"
import { TaskRunner, type RetryLater } from "@castellan/domain/task/TaskRunner.ts"
import { TaskRunStore } from "@castellan/domain/task/TaskRunStore.ts"
import { hasEnded, TaskRun } from "@castellan/domain/task/TaskRun.ts"
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

/** What a database does that can't read a made-up place. */
const knownCursor = ({ cursor }: Page) => (cursor === null ? Effect.void : Effect.die("no such place"))

sabotage(IdentityStore, World.layer, allClauses(IdentityContract.topics), {
  "an account is found as it was written, and no other": () => ({ findAccount: none }),
  "an account that is written twice stays as it was first": () => {
    const accounts = new Map()
    return {
      addAccount: (account) => Effect.sync(() => void accounts.set(account.id, account)),
      findAccount: (id) => Effect.sync(() => Option.fromUndefinedOr(accounts.get(id)))
    }
  },
  "the platform admin is the oldest account that is one": () => ({ findPlatformAdmin: Effect.succeed(Option.none()) }),
  "a key is found by its digest, with its account, expired or not": () => ({ findKey: none }),
  "a digest that is known keeps its first key": () => {
    const keys = new Map()
    return {
      addKey: (_, key, digest) => Effect.sync(() => void keys.set(digest, key)),
      findKey: (digest) => Effect.sync(() => Option.some({ key: keys.get(digest), account: keys.get(digest) }))
    }
  },
  "an account's keys are listed newest first, and nobody else's": (real) => ({
    listKeys: (scope) => Effect.map(real.listKeys(scope), (keys) => keys.toReversed())
  }),
  "a key is written for the scope's account, whatever it says of itself": (real) => ({
    addKey: (_, key, digest) => real.addKey(AccountScope.ofOwner(key), key, digest)
  }),
  "a key is removed by its account, once, and by nobody else": () => ({ removeKey: () => Effect.succeed(true) }),
  "of the keys and accounts that are asked for, those that are stored are found": () => ({
    findExisting: ({ accounts, keys }) => Effect.succeed({ accounts: new Set(accounts), keys: new Set(keys) })
  }),
  "a NUL in a text breaks nothing": (real) => ({
    removeKey: (scope, id) => Effect.andThen(withoutNul(id), real.removeKey(scope, id))
  }),
  "the last use of a key is recorded, and no earlier one after it": () => ({ recordUse: () => Effect.void }),
  "two accounts are tied by every organization that both have a part in, and by no other": (real) => ({
    relationshipBetween: (actor, target) =>
      Effect.map(real.relationshipBetween(actor, target), (ties) => ({
        ...ties,
        shared: ties.shared.filter(({ target }) => target !== "invited")
      }))
  }),
  "an organization is written with its first owner": (real) => ({
    addOrganization: (_, organization) => real.addAccount(organization)
  }),
  "an organization whose id is known changes nothing": (real) => ({
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
  "organizations are listed in the order they came to the account, and nobody else's": (real) => ({
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
  "members are listed in the order they came, of the scope's organization only": (real) => ({
    listMembers: (scope) => Effect.map(real.listMembers(scope), (members) => members.toReversed())
  }),
  "an invitation is accepted by its account, again and again, and by nobody else": (real) => ({
    acceptMembership: (scope, organization) =>
      Effect.map(
        real.acceptMembership(scope, organization),
        Option.filter(({ status }) => status === "invited")
      )
  }),
  "a membership comes to what was decided about what stood": (real) => ({
    changeMember: (scope, change) =>
      real.changeMember(scope, { ...change, decide: (seen) => change.decide({ ...seen, owners: 1 }) })
  }),
  "a membership that stands keeps its date, whoever it is of": (real) => ({
    changeMember: (scope, change) =>
      real
        .changeMember(scope, { ...change, decide: () => Result.succeed(Option.none()) })
        .pipe(Effect.andThen(real.changeMember(scope, change)))
  }),
  "a change that is decided against changes nothing": (real) => ({
    changeMember: (scope, change) =>
      real
        .changeMember(scope, { ...change, decide: () => Result.succeed(Option.none()) })
        .pipe(Effect.andThen(real.changeMember(scope, change)))
  }),
  "a write leaves every other key and membership as it is": (real) => ({
    changeMember: (scope, change) =>
      Effect.gen(function* () {
        const changed = yield* real.changeMember(scope, change)
        const member = AccountScope.ofOwner({ account: change.member })
        // Removes the member of one organization from all of them.
        for (const { organization } of Option.isNone(changed) ? yield* real.listOrganizations(member) : []) {
          const all = AccountScope.ofOwner({ account: organization.id })
          yield* real.changeMember(all, { ...change, decide: () => Result.succeed(Option.none()) })
        }
        return changed
      })
  }),
  "of many changes at once each is decided on what the one before has left": (real) => ({
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
  "the first to ask is told so, with its nonce": () => ({ begin: () => first("another") }),
  "of many that ask at once one is first and the others find it in flight": () => ({
    begin: (_, __, { nonce }) => first(nonce)
  }),
  "who asks after the answer gets it": () => ({ answer: () => Effect.void }),
  "another request under the key is told so, answered or not": (real) => ({
    begin: (scope, key, asked) => real.begin(scope, key, { ...asked, request: "the same" })
  }),
  "a request that was cut off may be begun again, by one, with its first nonce": (real) => ({
    begin: (scope, key, asked) =>
      Effect.map(real.begin(scope, key, asked), (found) =>
        found._tag === "First" ? KeyState.First({ nonce: asked.nonce }) : found
      )
  }),
  "a request that was begun again is forgotten when its first attempt is too old": (real) => {
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
  "a request is in flight for as long as its lease is renewed": () => ({ renew: () => Effect.succeed(true) }),
  "an attempt whose key another took does not get it back": () => ({ renew: () => Effect.succeed(true) }),
  "an attempt whose key another took neither answers nor forgets its request": (real) => {
    let newest: Parameters<typeof real.begin>[2]["at"] | undefined
    return {
      begin: (scope, key, asked) => real.begin(scope, key, { ...asked, at: (newest = asked.at) }),
      forget: (scope, key) => real.forget(scope, key, newest!)
    }
  },
  "a request that was refused is forgotten": () => ({ forget: () => Effect.void }),
  "an answer is forgotten when its time is over": (real) => {
    let start: Parameters<typeof real.begin>[2]["at"] | undefined
    return { begin: (scope, key, asked) => real.begin(scope, key, { ...asked, at: (start ??= asked.at) }) }
  },
  "a key is its own account's affair": (real) => {
    let shared: AccountScope | undefined
    return { begin: (scope, key, asked) => real.begin((shared ??= scope), key, asked) }
  },
  "a write leaves the other keys of the account and the same key of another as they are": (real) => {
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
  "sweeping forgets what is old, and counts it": () => ({ sweep: () => Effect.succeed(0) })
})

sabotage(AccountStore, World.layer, allClauses(AccountContract.topics), {
  "a row is found as it was written": () => ({ get: none }),
  "writing a name twice gives back the row that stands": () => ({
    add: (_, sandbox) => Effect.succeed(Option.some(sandbox))
  }),
  "a name of another account is not given, and stays": () => ({
    add: (_, sandbox) => Effect.succeed(Option.some(sandbox))
  }),
  "a row is written for the scope's account, whatever it says of itself": (real) => ({
    add: (_, sandbox, limit) => real.add(AccountScope.ofOwner(sandbox), sandbox, limit)
  }),
  "rows are listed newest first, in pages that lose and repeat none": (real) => ({
    list: (scope, page) => real.list(scope, { ...page, cursor: null, limit: 100 })
  }),
  "a cursor of a moment after every row gives the beginning": (real) => ({
    list: (scope, page) => Effect.andThen(knownCursor(page), real.list(scope, page))
  }),
  "a NUL in a text breaks nothing": (real) => ({
    recordObserved: (scope, sightings) => Effect.andThen(withoutNul(sightings), real.recordObserved(scope, sightings))
  }),
  "what was seen is recorded, of the scope's account only": (real) => ({
    recordObserved: (scope, sightings) => real.recordObserved(scope, sightings.slice(0, 1))
  }),
  "a row whose files were removed stays as it is, whatever is seen": (real) => ({
    recordObserved: (scope, sightings) =>
      Effect.as(real.recordObserved(scope, sightings), new Set(sightings.map(({ name }) => name)))
  }),
  "unfinished are the old pending rows of all accounts, oldest first, as many as asked for": (real) => ({
    listUnfinished: (before) => real.listUnfinished(before, 100)
  }),
  "no account gets more live sandboxes than its limit, however many ask at once": (real) => ({
    add: Effect.fnUntraced(function* (scope, sandbox, limit) {
      const { length } = yield* real.listKept(scope, limit)
      yield* Effect.sleep("10 millis")
      if (length >= limit) return yield* new SandboxQuotaReached({ account: scope.account, limit })
      return yield* real.add(scope, sandbox, Infinity)
    })
  }),
  "those count as live that are pending, running or stopping and have not expired": (real) => ({
    add: (scope, sandbox, limit) =>
      real.add(scope, new AccountSandbox({ ...sandbox, createdAt: DateTime.makeUnsafe(0) }), limit)
  }),
  "the row that stands is given back to an account that is full": (real) => ({
    add: Effect.fnUntraced(function* (scope, sandbox, limit) {
      const { length } = yield* real.listKept(scope, limit)
      if (length >= limit) return yield* new SandboxQuotaReached({ account: scope.account, limit })
      return yield* real.add(scope, sandbox, limit)
    })
  }),
  "kept are the rows whose files were not removed, of the scope's account, oldest first, as many as asked for": (
    real
  ) => ({
    listKept: (scope, limit) => Effect.map(real.list(scope, { limit, cursor: null }), ({ rows }) => rows.toReversed())
  }),
  "expired are the rows of all accounts that were over and whose files were not removed, those over longest first": (
    real
  ) => ({
    listExpired: (before, limit) =>
      Effect.map(real.listExpired(before, limit), (rows) => rows.filter(({ expiresAt }) => expiresAt !== null))
  }),
  "that files were removed is recorded once, of the scope's account only": (real) => ({
    recordRemoved: (scope, names, at, reason) => real.recordRemoved(scope, names.slice(0, 1), at, reason)
  }),
  "a new row, a change of its status and that its files were removed are told once, and nothing else is": (real) => ({
    recordObserved: (scope, sightings) =>
      Effect.andThen(
        real.recordObserved(
          scope,
          sightings.map((sighting) => ({ ...sighting, status: "stopping" as const }))
        ),
        real.recordObserved(scope, sightings)
      )
  }),
  "of changes of many sandboxes at once each is told": (real) => ({
    recordRemoved: (scope, names, at, reason) => real.recordRemoved(scope, names.slice(0, 1), at, reason)
  }),
  "what lives is counted, of all accounts": () => ({ countLive: () => Effect.succeed(0) }),
  "totals are told of all accounts, the newest sandbox first, in pages that lose and repeat none": (real) => ({
    totals: (proof, page) => real.totals(proof, { ...page, cursor: null })
  })
})

sabotage(EnvironmentStore, World.layer, allClauses(EnvironmentContract.topics), {
  "an environment is found as it was saved, by its account only": () => ({ get: none }),
  "saving changes what is named and leaves the rest": (real) => ({
    save: (scope, change, now) => Effect.andThen(real.remove(scope), real.save(scope, change, now))
  }),
  "the saved snapshot is forgotten if it is the one that is named": (real) => ({
    forget: Effect.fnUntraced(function* (scope) {
      const saved = Option.flatMapNullishOr(yield* real.get(scope), ({ snapshot }) => snapshot)
      if (Option.isSome(saved)) yield* real.forget(scope, saved.value)
    })
  }),
  "a setup is claimed where there was none or the named one was it, and the one that stands is given": (real) => ({
    claimSetup: (scope, run, instead, now) =>
      Effect.flatMap(real.claimSetup(scope, run, instead, now), (stands) =>
        real.claimSetup(scope, run, instead === null ? null : stands, now)
      )
  }),
  "of many that claim a setup at once all get the same": (real) => ({
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
  "what a setup made is saved only while it is the account's setup": (real) => ({
    saveSetup: (scope, _, change) => Effect.asSome(real.save(scope, change, DateTime.makeUnsafe(0)))
  }),
  "an environment is removed with all that was saved, and given once; snapshots stay": (real) => ({
    remove: Effect.fnUntraced(function* (scope) {
      for (const { key } of yield* real.listSnapshots(scope, null)) yield* real.deleteSnapshot(scope, key)
      return yield* real.remove(scope)
    })
  }),
  "wanting a key twice gives the snapshot that stands": (real) => ({
    reserveSnapshot: (scope, snapshot) =>
      Effect.andThen(real.deleteSnapshot(scope, snapshot.key), real.reserveSnapshot(scope, snapshot))
  }),
  "a snapshot is wanted for the scope's account and not yet taken, whatever it says of itself": (real) => ({
    reserveSnapshot: (_, snapshot) => real.reserveSnapshot(AccountScope.ofOwner(snapshot), snapshot)
  }),
  "a key of another account is not given, and stays": (real) => {
    const owners = new Map<SnapshotKey, AccountScope>()
    return {
      reserveSnapshot: (scope, snapshot) => {
        const owner = owners.get(snapshot.key) ?? scope
        owners.set(snapshot.key, owner)
        return real.reserveSnapshot(owner, snapshot)
      }
    }
  },
  "another snapshot of a source is not wanted until the one before was taken or dropped": (real) => ({
    reserveSnapshot: (scope, snapshot) =>
      Effect.flatMap(real.listSnapshots(scope, snapshot.source), ([one]) =>
        one === undefined ? real.reserveSnapshot(scope, snapshot) : Effect.succeed(Option.none())
      )
  }),
  "of many that want a snapshot of a source at once one gets it": (real) => ({
    reserveSnapshot: (scope, snapshot) =>
      late(
        Effect.map(real.listSnapshots(scope, snapshot.source), ([one]) =>
          one === undefined
            ? Effect.as(real.reserveSnapshot(scope, snapshot), Option.some(snapshot))
            : Effect.succeed(Option.some(one))
        )
      )
  }),
  "it is written which snapshot was taken, while it is wanted and by its account": (real) => ({
    completeSnapshot: (scope, key, id) => Effect.as(real.completeSnapshot(scope, key, id), true)
  }),
  "saying twice which snapshot was taken is fine, and another than the first is refused": (real) => ({
    completeSnapshot: (scope, key, id) =>
      Effect.flatMap(real.findSnapshot(scope, id), (known) =>
        Option.isSome(known) ? Effect.succeed(false) : real.completeSnapshot(scope, key, id)
      )
  }),
  "a snapshot that was taken is found by its id, by its account only": () => ({ findSnapshot: none }),
  "snapshots are listed oldest first, of one source if it is named, and nobody else's": (real) => ({
    listSnapshots: (scope) => real.listSnapshots(scope, null)
  }),
  "a snapshot is dropped, twice if need be, by its account only": () => ({ deleteSnapshot: () => Effect.void }),
  "a write leaves every other environment and snapshot as it is": (real) => ({
    // Takes one snapshot for all that the account still waits for.
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
  "unneeded are what expired, what was not taken in time, and passing ones that no environment refers to": (real) => ({
    listUnneeded: (now, before, limit) =>
      Effect.map(real.listUnneeded(now, before, limit), (all) => all.filter(({ purpose }) => purpose !== "fork"))
  }),
  "a NUL in a text breaks nothing": (real) => ({
    saveSetup: (scope, run, change) => Effect.andThen(withoutNul(change), real.saveSetup(scope, run, change))
  })
})

const ownerOf = (store: SessionStore["Service"], id: SessionId, scope: AccountScope) =>
  Effect.map(store.ownerOf(id), (owner) =>
    Option.isSome(owner) ? AccountScope.ofOwner({ account: owner.value }) : scope
  )

/** Puts a session in place of another, whatever the versions. */
const replace = (store: SessionStore["Service"], scope: AccountScope, before: Session, after: Session) =>
  Effect.andThen(store.remove(scope, before, after.updatedAt), store.add(scope, after))

sabotage(SessionStore, World.layer, allClauses(SessionContract.topics), {
  "a session is found as it was written, by its account only": () => ({ get: none }),
  "writing an id twice gives back the row that stands": () => ({
    add: (_, session) => Effect.succeed(Option.some(session))
  }),
  "an id of another account is not given, and stays": (real) => ({
    add: (scope, session) => Effect.flatMap(ownerOf(real, session.id, scope), (owner) => real.add(owner, session))
  }),
  "a session is written for the scope's account, whatever it says of itself": (real) => ({
    add: (_, session) => real.add(AccountScope.ofOwner(session), session)
  }),
  "it is told whose a session is": () => ({ ownerOf: none }),
  "sessions are listed newest first without those that are ephemeral, in pages that lose and repeat none": (real) => ({
    list: (scope, page) => real.list(scope, { ...page, cursor: null, limit: 100 })
  }),
  "a cursor of a moment after every row gives the beginning": (real) => ({
    list: (scope, page) => Effect.andThen(knownCursor(page), real.list(scope, page))
  }),
  "what is named of a session is changed, by its account only, and its version stays": (real) => ({
    change: (scope, id, change, now) =>
      Effect.flatMap(ownerOf(real, id, scope), (owner) => real.change(owner, id, change, now))
  }),
  "an archived session keeps its status, and one that has a repository keeps that": (real) => ({
    change: Effect.fnUntraced(function* (scope, id, change, now) {
      const known = yield* real.get(scope, id)
      if (Option.isNone(known)) return known
      return yield* replace(real, scope, known.value, new Session({ ...known.value, ...change, updatedAt: now }))
    })
  }),
  "a step is written if the stored version is the one before, by its account only": (real) => ({
    take: (scope, step) => Effect.as(real.take(scope, step), true)
  }),
  "a step that says where the working tree is is written with it, and those that follow leave it": (real) => ({
    // As a store does that does not know of it.
    get: (scope, id) =>
      Effect.map(
        real.get(scope, id),
        Option.map((found) => {
          const lifecycle = new Lifecycle({ ...found.lifecycle, workspace: false })
          return new Session({ ...found, lifecycle })
        })
      )
  }),
  "of many that take the same version at once one does, and that is told": (real) => ({
    take: (scope, { session }) =>
      late(
        Effect.map(real.get(scope, session.id), (known) =>
          Option.isSome(known) && known.value.lifecycle.version === session.lifecycle.version - 1
            ? Effect.as(replace(real, scope, known.value, session), true)
            : Effect.succeed(false)
        )
      )
  }),
  "a step leaves what is not the lifecycle as it is stored, and the status unless it archives or takes out again": (
    real
  ) => ({
    take: (scope, step) => {
      const { id, title, updatedAt } = step.session
      return Effect.tap(real.take(scope, step), real.change(scope, id, { title }, updatedAt))
    }
  }),
  "a look is postponed while the version stands, by its account only, and all else stays": (real) => ({
    postpone: (scope, id, version, lookAt) => Effect.as(real.postpone(scope, id, version, lookAt), true)
  }),
  "due are the sessions of all accounts whose look has come, the longest waiting first, as many as asked for": (
    real
  ) => ({
    claimDue: (now, until) => real.claimDue(now, until, 100)
  }),
  "each due session is given to one of many that claim at once": (real) => ({
    claimDue: (now, until, limit) => Effect.map(real.claimDue(now, until, limit), (due) => [...due, ...due])
  }),
  "awake are the account's sessions whose sandbox runs or is about to, also those that are ephemeral": (real) => ({
    countAwake: (scope) =>
      Effect.map(
        real.list(scope, { limit: 100, cursor: null }),
        ({ rows }) => rows.filter(({ lifecycle }) => lifecycle.state === "active").length
      )
  }),
  "a session is forgotten at its version, once, by its account only": (real) => ({
    remove: (scope, session, now) => Effect.as(real.remove(scope, session, now), true)
  }),
  "a write leaves every other session as it is": (real) => ({
    // Changes all sessions of the account.
    change: Effect.fnUntraced(function* (scope, id, change, now) {
      for (const other of (yield* real.list(scope, { limit: 100, cursor: null })).rows) {
        yield* real.change(scope, other.id, change, now)
      }
      return yield* real.get(scope, id)
    })
  }),
  "that a session was created, each of its steps that says so, and that it was removed are told once": (real) => ({
    add: (scope, session) =>
      Effect.flatMap(real.add(scope, session), (added) =>
        Option.isSome(added) ? replace(real, scope, session, session) : Effect.succeed(added)
      )
  }),
  "a NUL in a text breaks nothing": (real) => ({
    change: (scope, id, change, now) => Effect.andThen(withoutNul(change), real.change(scope, id, change, now))
  })
})

sabotage(EventStore, World.layer, EventContract.clauses, {
  "events are read in the order they happened, in pages that lose and repeat none, by their account only": (real) => ({
    read: (scope, after, limit) =>
      real.read(scope, after === null ? null : EventCursor.make(`${Number(after) + 2}`), limit)
  }),
  "who reads on from the last cursor gets what happened since, and nothing where nothing did": (real) => ({
    read: (scope, after, limit) => (after === null ? real.read(scope, after, limit) : Effect.succeed([]))
  }),
  "who begins at the latest gets all that happens from then on, and nothing else": () => ({
    latest: () => Effect.succeed(EventCursor.make("0"))
  }),
  "of events that many write at once a reader that goes on meanwhile misses none, and each story is in its order": (
    real
  ) => ({
    read: Effect.fnUntraced(function* (scope, after, limit) {
      const page = yield* real.read(scope, after, limit)
      const cursor = yield* real.latest(scope)
      return page.map(({ event }) => ({ event, cursor }))
    })
  }),
  "events from before a moment are forgotten, of all accounts, and a reader goes on where it was": () => ({
    sweep: () => Effect.void
  }),
  "a NUL in a text breaks nothing": (real) => ({
    read: (scope, after, limit) => Effect.tap(real.read(scope, after, limit), withoutNul)
  })
})

const endOfTime = DateTime.makeUnsafe(8.64e15)

sabotage(BaseImageStore, World.layer, allClauses(BaseImageContract.topics), {
  "an image is found by its key as it was begun, used at that hour": () => ({ find: none }),
  "an image may be everybody's": (real) => ({
    find: (key) =>
      Effect.map(
        real.find(key),
        Option.filter(({ account }) => account !== null)
      )
  }),
  "a claim gives the image as it was, with the builder that was given up": (real) => ({
    claim: (claim, now) =>
      Effect.flatMap(real.claim(claim, now), (before) =>
        Option.isSome(before) ? real.find(claim.key) : Effect.succeed(before)
      )
  }),
  "a claim is refused while somebody builds, while a failure forbids it, and while the image is not stale": (real) => ({
    claim: (claim, now) => real.claim({ ...claim, staleBefore: endOfTime }, now)
  }),
  "of many that claim at once one gets it": (real) => ({
    claim: (claim, now) =>
      late(
        Effect.map(real.find(claim.key), (known) =>
          Option.isNone(known) || known.value.builderUntil!.epochMilliseconds <= now.epochMilliseconds
            ? Effect.flatMap(real.claim(claim, now), () => real.find(claim.key))
            : Effect.succeed(Option.none())
        )
      )
  }),
  "a builder's time is set while it is the one": (real) => ({
    renew: (key, builder, until) => Effect.as(real.renew(key, builder, until), true)
  }),
  "what was built is current, if its builder still is the one, and what was before is replaced": (real) => ({
    built: (key, builder, snapshot, at) => Effect.as(real.built(key, builder, snapshot, at), true)
  }),
  "a failed build is recorded, if its builder still is the one, and the last good snapshot stays": (real) => ({
    failed: (key, builder, error, retryAfter) =>
      Effect.flatMap(real.find(key), (known) =>
        real.failed(key, Option.getOrNull(known)?.builder ?? builder, error, retryAfter)
      )
  }),
  "a snapshot that was lost is current no more, if it was, and is not replaced": (real) => ({
    lost: (key, snapshot) =>
      Effect.flatMap(real.find(key), (known) => real.lost(key, Option.getOrNull(known)?.current ?? snapshot))
  }),
  "use is recorded to the hour, and no earlier one after it": () => ({ used: () => Effect.void }),
  "a write leaves every other image as it is": (real) => {
    const keys = new Set<ImageKey>()
    return {
      claim: (claim, now) =>
        Effect.andThen(
          Effect.sync(() => keys.add(claim.key)),
          real.claim(claim, now)
        ),
      // Records the use of all images.
      used: (_, at) => Effect.suspend(() => Effect.forEach(keys, (key) => real.used(key, at), { discard: true }))
    }
  },
  "unneeded are what was replaced, builders whose time is over and current snapshots long unused": (real) => ({
    listUnneeded: (now, unusedSince) => real.listUnneeded(now, unusedSince, 100)
  }),
  "a replaced snapshot is forgotten, and no other": () => ({ dropReplaced: () => Effect.void }),
  "a builder is forgotten when its time is over, if it still is the one": (real) => ({
    dropBuilder: (key, builder) => real.dropBuilder(key, builder, endOfTime)
  }),
  "an image that is long unused is retired, its snapshot replaced": (real) => ({
    retire: (key) => real.retire(key, endOfTime)
  }),
  "a NUL in a text breaks nothing": (real) => ({
    failed: (key, builder, error, retryAfter) =>
      Effect.andThen(withoutNul(error), real.failed(key, builder, error, retryAfter))
  })
})

sabotage(TaskRunStore, World.layer, TaskRunStoreContract.clauses, {
  "a run is found as it was written, by its account only": () => ({ get: none }),
  "a run is saved with all that became of it": () => ({ save: () => Effect.succeed(true) }),
  "of two writes that know the same version one is refused": () => ({ save: () => Effect.succeed(true) }),
  "live in a sandbox are the account's runs that work there and have not ended, told without their logs": (real) => ({
    liveIn: (scope, sandbox) =>
      Effect.map(real.liveIn(scope, sandbox), (runs) => runs.filter(({ status }) => status === "EXECUTING"))
  }),
  "a run of another account is not saved": (real) => ({ save: (_, run) => real.save(AccountScope.ofOwner(run), run) }),
  "a write leaves every other run as it is": (real) => ({
    // Saves all runs of the account at that version.
    save: Effect.fnUntraced(function* (scope, run) {
      for (const other of (yield* real.list(scope, { limit: 100, cursor: null })).rows) {
        if (other.version === run.version - 1) {
          yield* real.save(scope, new TaskRun({ ...other, status: run.status, version: run.version }))
        }
      }
      return true
    })
  }),
  "runs are listed newest first without their output, in pages that lose and repeat none": (real) => ({
    list: (scope, page) => Effect.map(real.list(scope, page), ({ next, rows }) => ({ rows: rows.toReversed(), next }))
  }),
  "a cursor of a moment after every row gives the beginning": (real) => ({
    list: (scope, page) => Effect.andThen(knownCursor(page), real.list(scope, page))
  }),
  "a NUL in a text breaks nothing": (real) => ({
    save: (scope, run) => Effect.andThen(withoutNul(run), real.save(scope, run))
  })
})

type Work = (run: TaskRun) => Effect.Effect<void, RetryLater>

/** A runner that does something else with the work. */
const working = (change: (work: Work) => Work) => (real: TaskRunner["Service"]) => ({
  process: ((task, options, work) => real.process(task, options, change(work))) as typeof real.process
})

const twice = working((work) => (run) => Effect.andThen(work(run), work(run)))
const never = working(() => () => Effect.void)

sabotage(TaskRunner, World.layer, TaskRunnerContract.clauses, {
  "a run is queued once, however often": twice,
  "an id of another account is refused, and nothing is written or queued": () => ({ enqueue: () => Effect.void }),
  "a run is delivered as its row stands": working((work) => (run) => (hasEnded(run) ? Effect.void : work(run))),
  "a run is delivered to a worker that was there before it": never,
  "work that succeeds is not delivered again": twice,
  "work that asks to try again is delivered again": working((work) => (run) => Effect.ignore(work(run))),
  "work that breaks off is delivered again, and does not take the worker with it": working(
    (work) => (run) => Effect.ignoreCause(work(run))
  ),
  "work whose worker stopped is delivered to the next": working(
    (work) => (run) => Effect.asVoid(Effect.forkDetach(work(run)))
  ),
  "no more is worked on at once than was asked for, and the oldest comes first": (real) => ({
    process: (task, _, work) => real.process(task, { concurrency: 100 }, work)
  }),
  "two workers share a task's runs and never work on one at the same time": working(
    (work) => (run) => Effect.asVoid(Effect.all([work(run), work(run)], { concurrency: 2 }))
  ),
  "what waits for a worker is told by task, as long as it could be worked on": () => ({ backlog: Effect.succeed([]) }),
  "the queue answers": () => ({ ping: Effect.die("silent") })
})
