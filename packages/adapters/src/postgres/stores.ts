/** Provides all stores over one database. */
import { Layer } from "effect"
import * as PgAccountStore from "./stores/PgAccountStore.ts"
import * as PgAppStore from "./stores/PgAppStore.ts"
import * as PgBaseImageStore from "./stores/PgBaseImageStore.ts"
import * as PgEnvironmentStore from "./stores/PgEnvironmentStore.ts"
import * as PgEventStore from "./stores/PgEventStore.ts"
import * as PgIdempotencyStore from "./stores/PgIdempotencyStore.ts"
import * as PgIdentityStore from "./stores/PgIdentityStore.ts"
import * as PgSessionStore from "./stores/PgSessionStore.ts"
import * as PgTaskRunStore from "./stores/PgTaskRunStore.ts"

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
