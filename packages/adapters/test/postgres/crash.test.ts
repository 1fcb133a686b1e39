import { AccountStore } from "@castellan/domain/account/AccountStore.ts"
import * as Db from "@castellan/adapters/postgres/Db.ts"
import * as Stores from "@castellan/adapters/postgres/stores.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { AccountId } from "@castellan/domain/identity/Account.ts"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Redacted, Schedule } from "effect"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as databases from "./databases.ts"

/** Where the database is of all tests here: a new one takes long to be made. */
class Directory extends Context.Service<Directory, string>()("test/Directory") {
  static readonly layer = Layer.effect(
    Directory,
    Effect.map(databases.temporaryDirectory, (directory) => join(directory, "data"))
  )
}

const writer = fileURLToPath(new URL("./writer.ts", import.meta.url))

/** A process that writes rows and says each name once it is written, until it is killed. */
const writing = (directory: string) => {
  const child = spawn(process.execPath, [writer, directory], { stdio: ["ignore", "pipe", "inherit"] })
  const said: Array<string> = []
  let rest = ""
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    const lines = (rest + chunk).split("\n")
    rest = lines.pop()!
    said.push(...lines)
  })
  return { child, said }
}

const until = (enough: () => boolean) =>
  Effect.suspend(() => (enough() ? Effect.void : Effect.fail("not yet"))).pipe(
    Effect.retry({ schedule: Schedule.spaced("10 millis"), times: 2000 })
  )

it.layer(Directory.layer, { excludeTestServices: true })("The embedded database", (it) => {
  it.effect("loses no row that was written when its process is killed", () =>
    Effect.gen(function* () {
      const directory = yield* Directory
      const names: Array<string> = []
      let account = ""
      for (let life = 0; life < 3; life++) {
        const { child, said } = writing(directory)
        yield* until(() => said.length > 20 + life * 7)
        child.kill("SIGKILL")
        yield* Effect.promise(() => once(child, "exit"))
        account = said[0]!
        const scope = AccountScope.ofOwner({ account: AccountId.make(account) })
        const written = said.slice(1)
        names.push(...written)
        const { rows } = yield* Effect.flatMap(AccountStore, (store) =>
          store.list(scope, { limit: 100, cursor: null })
        ).pipe(Effect.provide(Stores.layer.pipe(Layer.provide(Db.layerPglite({ directory })))), Effect.scoped)
        const found = rows.map(({ name }) => name as string)
        for (const name of written) assert.include(found, name)
      }
      assert.isAbove(names.length, 60)
    }).pipe(Effect.scoped)
  )

  it.effect("is not opened twice, and says who has it", () =>
    Effect.gen(function* () {
      const directory = yield* Directory
      const { child, said } = writing(directory)
      yield* Effect.addFinalizer(() => Effect.sync(() => child.kill("SIGKILL")))
      yield* until(() => said.length > 1)
      const refused = yield* Effect.flip(Effect.scoped(Layer.build(Db.layerPglite({ directory }))))
      assert.include(refused.message, `${directory} is in use by another Castellan server`)
    }).pipe(Effect.scoped)
  )
})

describe("A Postgres server", () => {
  it.live("that can't be reached is named by its variable, and not with its password", () =>
    Effect.gen(function* () {
      const url = Redacted.make("postgres://user:hunter2@127.0.0.1:1/none")
      const { message } = yield* Effect.flip(Effect.scoped(Layer.build(Db.layerPostgres({ url }))))
      assert.match(message, /^DATABASE_URL .*ECONNREFUSED/)
      assert.notInclude(message, "hunter2")
    })
  )
})
