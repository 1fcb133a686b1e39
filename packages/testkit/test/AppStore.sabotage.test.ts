import { AppMove, type AppStep } from "@castellan/domain/app/AppLifecycle.ts"
import { AppStore } from "@castellan/domain/app/AppStore.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { topics } from "@castellan/testkit/contracts/AppStore/contract.ts"
import * as given from "@castellan/testkit/given.ts"
import { allClauses } from "@castellan/testkit/contracts/contract.ts"
import { sabotage } from "@castellan/testkit/sabotage.ts"
import * as World from "@castellan/testkit/World.ts"
import { DateTime, Effect, Option } from "effect"
import { late, none, withoutNul } from "./mutants.ts"

type Store = AppStore["Service"]

/** Takes one step after the other, and goes on after one that was refused. */
const oneByOne = (store: Store, scope: AccountScope, steps: ReadonlyArray<AppStep>) =>
  Effect.map(
    Effect.forEach(steps, (step) => store.take(scope, [step])),
    (taken) => taken.every(Boolean)
  )

/** Says yes to everybody who knew the versions a moment ago. */
const toAllAtOnce = (store: Store): Partial<Store> => ({
  take: (scope, steps) =>
    late(
      Effect.map(
        Effect.forEach(steps, ({ app }) => store.get(scope, app.name)),
        (known) =>
          known.every((app, i) => Option.exists(app, ({ version }) => version === steps[i]!.app.version - 1))
            ? Effect.as(store.take(scope, steps), true)
            : Effect.succeed(false)
      )
    )
})

sabotage(AppStore, World.layer, allClauses(topics), {
  "an app is found as it was begun, by its account only": () => ({ get: none }),
  "beginning a name twice gives back the row that stands": (real) => ({
    begin: (scope, app) => Effect.map(real.begin(scope, app), Option.as(app))
  }),
  "a name of another account is not given, and stays": (real) => ({
    begin: (scope, app) =>
      Effect.flatMap(real.ownerOf(app.name), (owner) =>
        real.begin(Option.isSome(owner) ? AccountScope.ofOwner({ account: owner.value }) : scope, app)
      )
  }),
  "an app is begun for the scope's account, whatever it says of itself": (real) => ({
    begin: (_, app) => real.begin(AccountScope.ofOwner(app), app)
  }),
  "while one of an account's is starting no other begins and that one is given, however many begin at once": (
    real
  ) => ({
    begin: (scope, app) =>
      Effect.map(
        real.begin(scope, app),
        Option.filter(({ name }) => name === app.name)
      )
  }),
  "the next one begins as soon as the one before is no longer starting": (real) => ({
    begin: (scope, app) =>
      Effect.flatMap(real.active(scope), (active) =>
        Option.isSome(active) ? Effect.succeed(active) : real.begin(scope, app)
      )
  }),
  "it is told whose an app is": () => ({ ownerOf: none }),
  "active is the account's app that is ready or stopped, and no other": (real) => ({
    active: (scope) =>
      Effect.map(
        real.active(scope),
        Option.filter(({ state }) => state === "ready")
      )
  }),
  "live are the account's apps that have not ended, oldest first": (real) => ({
    listLive: (scope) => Effect.map(real.listLive(scope), (live) => live.toReversed())
  }),
  "a step is written if the stored version is the one before, by its account only": (real) => ({
    take: (scope, steps) => Effect.as(real.take(scope, steps), true)
  }),
  "a write leaves every other app as it is": (real) => ({
    // Holds all apps of the account that are ending.
    take: (scope, steps) =>
      Effect.tap(real.take(scope, steps), () =>
        Effect.flatMap(real.listLive(scope), (live) =>
          Effect.forEach(
            live.filter(({ state }) => state === "ending"),
            (app) => real.take(scope, [given.appStep(app, AppMove.Hold({ until: DateTime.makeUnsafe(7000) }))])
          )
        )
      )
  }),
  "of many that take the same version at once one does, and that is told": toAllAtOnce,
  "several steps are written together, and none where one of them can't be": (real) => ({
    take: (scope, steps) => oneByOne(real, scope, steps)
  }),
  "of takes at once that name the same apps in either order one does": toAllAtOnce,
  "no app becomes ready beside another that is ready or stopped": (real) => ({
    take: Effect.fnUntraced(function* (scope, steps) {
      const active = yield* real.active(scope)
      const isAlone = Option.isNone(active) || steps.some(({ app }) => app.name === active.value.name)
      if (isAlone || steps.every(({ app }) => app.state !== "ready")) return yield* real.take(scope, steps)
      const room = given.appStep(active.value, AppMove.End({ reason: null, until: DateTime.makeUnsafe(7000) }))
      return yield* real.take(scope, [room, ...steps])
    })
  }),
  "an app takes the place of another that ends with the same take, whichever is named first": (real) => ({
    take: (scope, steps) => oneByOne(real, scope, steps)
  }),
  "that an app was begun and each of its steps that says so are told once, and nothing that was refused": (real) => ({
    take: (scope, steps) =>
      Effect.tap(real.take(scope, steps), (taken) => (taken ? Effect.void : real.begin(scope, given.app(scope))))
  }),
  "of what is told of many apps at once a reader that goes on meanwhile misses none, and each story is in its order": (
    real
  ) => ({
    take: (scope, steps) =>
      steps.some(({ app }) => app.state === "ended") ? Effect.succeed(true) : real.take(scope, steps)
  }),
  "due are the apps of all accounts whose look has come, the longest waiting first, as many as asked for": (real) => ({
    claimDue: (now, until) => real.claimDue(now, until, 100)
  }),
  "each due app is given to one of many that claim at once": (real) => ({
    claimDue: (now, until, limit) => Effect.map(real.claimDue(now, until, limit), (due) => [...due, ...due])
  }),
  "a NUL in a text breaks nothing": (real) => ({
    begin: (scope, app) => Effect.andThen(withoutNul(app), real.begin(scope, app))
  })
})
