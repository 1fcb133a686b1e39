/** The contracts of every store and of the queue, over one database. */
import * as Stores from "@castellan/adapters/postgres/stores.ts"
import type { Db } from "@castellan/adapters/postgres/Db.ts"
import * as PgBossTaskRunner from "@castellan/adapters/tasks/PgBossTaskRunner.ts"
import * as AccountStore from "@castellan/testkit/contracts/AccountStore/contract.ts"
import * as AppStore from "@castellan/testkit/contracts/AppStore/contract.ts"
import * as BaseImageStore from "@castellan/testkit/contracts/BaseImageStore/contract.ts"
import * as EnvironmentStore from "@castellan/testkit/contracts/EnvironmentStore/contract.ts"
import * as EventStore from "@castellan/testkit/contracts/EventStore/contract.ts"
import * as IdempotencyStore from "@castellan/testkit/contracts/IdempotencyStore/contract.ts"
import * as IdentityStore from "@castellan/testkit/contracts/IdentityStore/contract.ts"
import * as SessionStore from "@castellan/testkit/contracts/SessionStore/contract.ts"
import * as TaskRunnerContract from "@castellan/testkit/contracts/TaskRunner/contract.ts"
import * as TaskRunStoreContract from "@castellan/testkit/contracts/TaskRunStore/contract.ts"
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
  TaskRunStoreContract.contract(subject, shared)
  TaskRunnerContract.contract(subject, shared)
}
