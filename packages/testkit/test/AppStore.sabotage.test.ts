import { AppTransition, type AppliedAppTransition } from "@castellan/domain/app/AppLifecycle.ts"
import { AppStore } from "@castellan/domain/app/AppStore.ts"
import { userRequested } from "@castellan/domain/ChangeReason.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { topics } from "@castellan/testkit/contracts/AppStore/contract.ts"
import * as given from "@castellan/testkit/given.ts"
import { allClauses } from "@castellan/testkit/contracts/contract.ts"
import { sabotage } from "@castellan/testkit/sabotage.ts"
import * as World from "@castellan/testkit/World.ts"
import { DateTime, Effect, Option } from "effect"
import { late, none, withoutNul } from "./mutants.ts"

type Store = AppStore["Service"]

/** Writes each transition separately, and continues after a refused one. */
const oneByOne = (store: Store, scope: AccountScope, steps: ReadonlyArray<AppliedAppTransition>) =>
  Effect.map(
    Effect.forEach(steps, (step) => store.compareAndSet(scope, [step])),
    (taken) => taken.every(Boolean)
  )

/** Accepts every write whose versions were current a moment ago. */
const toAllAtOnce = (store: Store): Partial<Store> => ({
  compareAndSet: (scope, steps) =>
    late(
      Effect.map(
        Effect.forEach(steps, ({ after: app }) => store.get(scope, app.name)),
        (known) =>
          known.every((app, i) => Option.exists(app, ({ version }) => version === steps[i]!.after.version - 1))
            ? Effect.as(store.compareAndSet(scope, steps), true)
            : Effect.succeed(false)
      )
    )
})

sabotage(AppStore, World.layer, allClauses(topics), {
  "an app is found as it was begun, by its account only": () => ({ get: none }),
  "beginning a name twice returns the existing row": (real) => ({
    begin: (scope, app) => Effect.map(real.begin(scope, app), Option.as(app))
  }),
  "a name that belongs to another account is refused and unchanged": (real) => ({
    begin: (scope, app) =>
      Effect.flatMap(real.ownerOf(app.name), (owner) =>
        real.begin(Option.isSome(owner) ? AccountScope.ofOwner({ account: owner.value }) : scope, app)
      )
  }),
  "an app is begun for the scope's account even if it names another": (real) => ({
    begin: (_, app) => real.begin(AccountScope.ofOwner(app), app)
  }),
  "while an app of the account is starting, concurrent begins return that app": (real) => ({
    begin: (scope, app) =>
      Effect.map(
        real.begin(scope, app),
        Option.filter(({ name }) => name === app.name)
      )
  }),
  "the next app begins once the previous one is no longer starting": (real) => ({
    begin: (scope, app) =>
      Effect.flatMap(real.active(scope), (active) =>
        Option.isSome(active) ? Effect.succeed(active) : real.begin(scope, app)
      )
  }),
  "ownerOf returns the account of an app": () => ({ ownerOf: none }),
  "active returns the account's app that is ready or stopped": (real) => ({
    active: (scope) =>
      Effect.map(
        real.active(scope),
        Option.filter(({ state }) => state === "ready")
      )
  }),
  "listLive returns the account's apps that have not ended, oldest first": (real) => ({
    listLive: (scope) => Effect.map(real.listLive(scope), (live) => live.toReversed())
  }),
  "a transition is written only from the previous version and only in the scope of its account": (real) => ({
    compareAndSet: (scope, steps) => Effect.as(real.compareAndSet(scope, steps), true)
  }),
  "a write does not change any other app": (real) => ({
    // Also renews the leases of all ending apps of the account.
    compareAndSet: (scope, steps) =>
      Effect.tap(real.compareAndSet(scope, steps), () =>
        Effect.flatMap(real.listLive(scope), (live) =>
          Effect.forEach(
            live.filter(({ state }) => state === "ending"),
            (app) =>
              real.compareAndSet(scope, [
                given.appStep(app, AppTransition.RenewLease({ leaseExpiresAt: DateTime.makeUnsafe(7000) }))
              ])
          )
        )
      )
  }),
  "one of several concurrent transitions from the same version is written and emits its event": toAllAtOnce,
  "several transitions are written together or not at all": (real) => ({
    compareAndSet: (scope, steps) => oneByOne(real, scope, steps)
  }),
  "one of several concurrent writes to the same apps succeeds, in whatever order they name them": toAllAtOnce,
  "no app becomes ready while another is ready or stopped": (real) => ({
    compareAndSet: Effect.fnUntraced(function* (scope, steps) {
      const active = yield* real.active(scope)
      const isAlone = Option.isNone(active) || steps.some(({ after: app }) => app.name === active.value.name)
      if (isAlone || steps.every(({ after: app }) => app.state !== "ready"))
        return yield* real.compareAndSet(scope, steps)
      const room = given.appStep(
        active.value,
        AppTransition.Terminate({ reason: userRequested, leaseExpiresAt: DateTime.makeUnsafe(7000) })
      )
      return yield* real.compareAndSet(scope, [room, ...steps])
    })
  }),
  "an app becomes ready in the same write that ends the active one, in either order": (real) => ({
    compareAndSet: (scope, steps) => oneByOne(real, scope, steps)
  }),
  "the begin and the visible transitions of an app emit one event each, and refused writes emit none": (real) => ({
    compareAndSet: (scope, steps) =>
      Effect.tap(real.compareAndSet(scope, steps), (taken) =>
        taken ? Effect.void : real.begin(scope, given.app(scope))
      )
  }),
  "a reader of concurrently written app events misses none and sees each app's events in order": (real) => ({
    compareAndSet: (scope, steps) =>
      steps.some(({ after: app }) => app.state === "ended") ? Effect.succeed(true) : real.compareAndSet(scope, steps)
  }),
  "claimDue returns the due apps of all accounts, longest due first, up to the limit": (real) => ({
    claimDue: (now, until) => real.claimDue(now, until, 100)
  }),
  "each due app goes to one of several concurrent claims": (real) => ({
    claimDue: (now, until, limit) => Effect.map(real.claimDue(now, until, limit), (due) => [...due, ...due])
  }),
  "a text with a NUL character can be written": (real) => ({
    begin: (scope, app) => Effect.andThen(withoutNul(app), real.begin(scope, app))
  })
})
