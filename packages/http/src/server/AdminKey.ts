/** Resets the platform admin's key in a server's database, without the server. */
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
import { storageConfig } from "./ServerConfig.ts"
import { InvalidConfig } from "./Setting.ts"

/** A running server or another reset has the embedded database open. */
export class ServerRunning extends Schema.TaggedError<ServerRunning>()("ServerRunning", { directory: Schema.String }) {}

const crypto = Mac.layerWebCrypto.pipe(Layer.provideMerge(SecureRandom.layerWebCrypto))

/** Creating a database or secret here would give a key that no server accepts. */
const missing = (directory: string, what: string) =>
  new InvalidConfig({
    message: `there is no ${what} in ${directory}: run this command with the working directory and the environment of the server (CASTELLAN_DATA_DIR, DATABASE_URL, CASTELLAN_SECRET); a server that never started shows a key at its first start`
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
 * Issues a new key for the platform admin in the database that the environment names. Fails with the embedded database
 * while a server runs. With a Postgres server it works beside running servers, which accept the new key at once.
 */
export const reset = Effect.gen(function* () {
  const { dataDirectory, databaseUrl, secret: configured } = yield* storageConfig
  const directory = resolve(dataDirectory)
  if (Option.isNone(databaseUrl)) {
    const database = join(directory, "postgres")
    if (!existsSync(database)) return yield* missing(directory, "database")
    if (yield* isOpen(database)) return yield* new ServerRunning({ directory })
  }
  const stored = yield* Effect.tryPromise({
    try: () => Secret.existing(directory),
    catch: (cause) => new InvalidConfig({ message: `CASTELLAN_DATA_DIR ${directory} can't be used: ${cause}` })
  })
  const secret = Option.getOrUndefined(configured) ?? (stored === undefined ? undefined : Redacted.make(stored))
  if (secret === undefined) return yield* missing(directory, "secret")
  const keys = ApiKeys.layer({ secret }).pipe(
    Layer.provide(CredentialWatch.layer),
    Layer.provide([PgIdentityStore.layer, crypto]),
    Layer.provide(Db.layerConfig({ dataDirectory: directory }))
  )
  return yield* Effect.flatMap(ApiKeys, ({ resetPlatformAdminKey }) => resetPlatformAdminKey).pipe(Effect.provide(keys))
})
