/** Every store over one database. */
import { Layer } from "effect"
import * as PgAccountStore from "./PgAccountStore.ts"
import * as PgAppStore from "./PgAppStore.ts"
import * as PgBaseImageStore from "./PgBaseImageStore.ts"
import * as PgEnvironmentStore from "./PgEnvironmentStore.ts"
import * as PgEventStore from "./PgEventStore.ts"
import * as PgIdempotencyStore from "./PgIdempotencyStore.ts"
import * as PgIdentityStore from "./PgIdentityStore.ts"
import * as PgSessionStore from "./PgSessionStore.ts"
import * as PgTaskRunStore from "./PgTaskRunStore.ts"

export const layer = Layer.mergeAll(
  PgIdentityStore.layer,
  PgIdempotencyStore.layer,
  PgAccountStore.layer,
  PgEnvironmentStore.layer,
  PgSessionStore.layer,
  PgAppStore.layer,
  PgBaseImageStore.layer,
  PgEventStore.layer,
  PgTaskRunStore.layer
)
