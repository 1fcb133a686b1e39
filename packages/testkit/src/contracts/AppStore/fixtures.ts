import { AppTransition } from "@castellan/domain/app/AppLifecycle.ts"
import { AppSandbox } from "@castellan/domain/app/AppSandbox.ts"
import { AppStore } from "@castellan/domain/app/AppStore.ts"
import { userRequested } from "@castellan/domain/ChangeReason.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { EventStore } from "@castellan/domain/sandbox/EventStore.ts"
import type { SandboxEvent } from "@castellan/domain/sandbox/SandboxEvent.ts"
import { assert } from "@effect/vitest"
import { Effect, Option } from "effect"
import * as given from "../../given.ts"
import { at } from "../fixtures.ts"

export const hold = AppTransition.RenewLease({ leaseExpiresAt: at(4000) })

export const serve = AppTransition.Serve({ expiresAt: at(5000) })

export const sleep = AppTransition.MarkStopped({ reason: { code: "stopped", sentence: null }, nextCheckAt: at(6000) })

export const end = AppTransition.Terminate({ reason: userRequested, leaseExpiresAt: at(7000) })

export const forget = AppTransition.MarkEnded()

/** Begins a new app, writes its transitions, and returns the result. */
export const beginApp = Effect.fnUntraced(function* (
  scope: AccountScope,
  moves: ReadonlyArray<AppTransition> = [],
  more: Partial<AppSandbox> = {}
) {
  const store = yield* AppStore
  let app = given.app(scope, more)
  assert.deepStrictEqual(yield* store.begin(scope, app), Option.some(app))
  for (const move of moves) {
    const step = given.appStep(app, move)
    assert.isTrue(yield* store.compareAndSet(scope, [step]))
    app = step.after
  }
  return app
})

/** Asserts that these apps of the account are stored. */
export const assertStored = Effect.fnUntraced(function* (scope: AccountScope, apps: ReadonlyArray<AppSandbox>) {
  const store = yield* AppStore
  for (const app of apps) assert.deepStrictEqual(yield* store.get(scope, app.name), Option.some(app))
})

/** The events of the account. */
export const eventsOf = (scope: AccountScope) =>
  Effect.flatMap(EventStore, (events) =>
    Effect.map(events.read(scope, null, 100), (read): ReadonlyArray<SandboxEvent> => read.map(({ event }) => event))
  )
