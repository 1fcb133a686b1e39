/** The contracts of every store and of the queue, over one database. */
import * as Stores from "@castellan/adapters/postgres/stores.ts"
import type { Db } from "@castellan/adapters/postgres/Db.ts"
import * as PgBossTaskRunner from "@castellan/adapters/tasks/PgBossTaskRunner.ts"
import * as AccountStore from "@castellan/testkit/contracts/AccountStore.ts"
import * as AppStore from "@castellan/testkit/contracts/AppStore.ts"
import * as BaseImageStore from "@castellan/testkit/contracts/BaseImageStore.ts"
import * as EnvironmentStore from "@castellan/testkit/contracts/EnvironmentStore.ts"
import * as EventStore from "@castellan/testkit/contracts/EventStore.ts"
import * as IdempotencyStore from "@castellan/testkit/contracts/IdempotencyStore.ts"
import * as IdentityStore from "@castellan/testkit/contracts/IdentityStore.ts"
import * as SessionStore from "@castellan/testkit/contracts/SessionStore.ts"
import * as TaskRuns from "@castellan/testkit/contracts/TaskRuns.ts"
import { Layer } from "effect"
import * as databases from "./databases.ts"

export const contracts = <E>(subject: string, database: Layer.Layer<Db, E>) => {
  const shared = databases.shared(
    Layer.merge(Stores.layer, PgBossTaskRunner.layer).pipe(Layer.provide(database), Layer.fresh)
  )
  IdentityStore.contract(subject, shared)
  IdempotencyStore.contract(subject, shared)
  AccountStore.contract(subject, shared)
  EnvironmentStore.contract(subject, shared)
  SessionStore.contract(subject, shared)
  AppStore.contract(subject, shared)
  EventStore.contract(subject, shared)
  BaseImageStore.contract(subject, shared)
  TaskRuns.contract(subject, shared)
}
