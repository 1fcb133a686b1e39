/** Writes rows for ever and says which it has written: to be killed. */
import * as Db from "@castellan/adapters/postgres/Db.ts"
import * as Stores from "@castellan/adapters/postgres/stores.ts"
import { AccountSandbox } from "@castellan/domain/account/AccountSandbox.ts"
import { AccountStore } from "@castellan/domain/account/AccountStore.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import * as given from "@castellan/testkit/given.ts"
import { DateTime, Effect, Layer } from "effect"
import { SecureRandom } from "effect/crypto"

const write = Effect.gen(function* () {
  const store = yield* AccountStore
  const scope = yield* given.scope
  process.stdout.write(`${scope.account}\n`)
  while (true) {
    const name = SandboxName.make(`sbx_${SecureRandom.uuidV4Unsafe()}`)
    const createdAt = yield* DateTime.now
    const rest = { status: "pending", expiresAt: null, reason: null, removedAt: null } as const
    yield* store.add(scope, new AccountSandbox({ name, account: scope.account, createdAt, ...rest }), 1_000_000)
    process.stdout.write(`${name}\n`)
    yield* Effect.sleep(5)
  }
})

await Effect.runPromise(
  write.pipe(
    Effect.provide(Stores.layer.pipe(Layer.provide(Db.layerPglite({ directory: process.argv[2]! })))),
    Effect.scoped
  )
)
