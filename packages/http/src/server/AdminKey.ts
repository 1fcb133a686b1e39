/** Resets the platform admin's key in the database of a server, without that server. */
import * as Db from "@castellan/adapters/postgres/Db.ts"
import * as DirectoryLock from "@castellan/adapters/postgres/DirectoryLock.ts"
import * as PgIdentityStore from "@castellan/adapters/postgres/stores/PgIdentityStore.ts"
import { ApiKeys } from "@castellan/domain/identity/ApiKeys.ts"
import { CredentialWatch } from "@castellan/domain/identity/CredentialWatch.ts"
import { Effect, Layer, Option, Redacted, Schema } from "effect"
import { Mac, SecureRandom } from "effect/crypto"
import { existsSync } from "node:fs"
import { join, resolve } from "node:path"
import * as Secret from "./Secret.ts"
import { InvalidConfig, storage } from "./ServerConfig.ts"

/** A running server, or another reset, has the embedded database open. */
export class ServerRunning extends Schema.TaggedError<ServerRunning>()("ServerRunning", { directory: Schema.String }) {}

const crypto = Mac.layerWebCrypto.pipe(Layer.provideMerge(SecureRandom.layerWebCrypto))

/** Says where data was looked for: a new database or secret made here would give a key that no server knows. */
const nothingIn = (directory: string, what: string) =>
  new InvalidConfig({
    message: `there is no ${what} in ${directory}: give this command the working directory and the environment of the server (CASTELLAN_DATA_DIR, DATABASE_URL, CASTELLAN_SECRET); a server that never started shows a key at its first start`
  })

/** Whether a process has the embedded database open. */
const isOpen = (directory: string) =>
  Effect.tryPromise({
    try: async () => {
      const release = await DirectoryLock.take(directory)
      release?.()
      return release === undefined
    },
    catch: (cause) => new InvalidConfig({ message: `CASTELLAN_DATA_DIR: ${directory} can't be used: ${cause}` })
  })

/**
 * Gives the platform admin a new key in the database that the environment names. With the embedded database it fails
 * while a server runs; with a Postgres server it works beside running servers, which take the new key at once.
 */
export const reset = Effect.gen(function* () {
  const { dataDirectory, databaseUrl, secret: configured } = yield* storage
  const directory = resolve(dataDirectory)
  if (Option.isNone(databaseUrl)) {
    const database = join(directory, "postgres")
    if (!existsSync(database)) return yield* nothingIn(directory, "database")
    if (yield* isOpen(database)) return yield* new ServerRunning({ directory })
  }
  const kept = yield* Effect.tryPromise({
    try: () => Secret.existing(directory),
    catch: (cause) => new InvalidConfig({ message: `CASTELLAN_DATA_DIR ${directory} can't be used: ${cause}` })
  })
  const secret = Option.getOrUndefined(configured) ?? (kept === undefined ? undefined : Redacted.make(kept))
  if (secret === undefined) return yield* nothingIn(directory, "secret")
  const keys = ApiKeys.layer({ secret }).pipe(
    Layer.provide(CredentialWatch.layer),
    Layer.provide([PgIdentityStore.layer, crypto]),
    Layer.provide(Db.layerConfig({ dataDirectory: directory }))
  )
  return yield* Effect.flatMap(ApiKeys, ({ resetPlatformAdminKey }) => resetPlatformAdminKey).pipe(Effect.provide(keys))
})
