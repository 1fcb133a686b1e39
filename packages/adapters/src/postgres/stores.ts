/** Every store over one database. */
import { Layer } from "effect"
import * as PgAccountStore from "./PgAccountStore.ts"
import * as PgEnvironmentStore from "./PgEnvironmentStore.ts"
import * as PgIdempotencyStore from "./PgIdempotencyStore.ts"
import * as PgIdentityStore from "./PgIdentityStore.ts"
import * as PgTaskRunStore from "./PgTaskRunStore.ts"

export const layer = Layer.mergeAll(
  PgIdentityStore.layer,
  PgIdempotencyStore.layer,
  PgAccountStore.layer,
  PgEnvironmentStore.layer,
  PgTaskRunStore.layer
)
