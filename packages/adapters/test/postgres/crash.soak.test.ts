import { AccountStore } from "@castellan/domain/account/AccountStore.ts"
import { AppStore } from "@castellan/domain/app/AppStore.ts"
import * as Db from "@castellan/adapters/postgres/Db.ts"
import * as Stores from "@castellan/adapters/postgres/stores.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { AccountId } from "@castellan/domain/identity/Account.ts"
import { IdempotencyKey, IdempotencyStore } from "@castellan/domain/identity/IdempotencyStore.ts"
import { ImageKey } from "@castellan/domain/sandbox/BaseImage.ts"
import { BaseImageStore } from "@castellan/domain/sandbox/BaseImageStore.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import type { Session } from "@castellan/domain/session/Session.ts"
import { SessionStore } from "@castellan/domain/session/SessionStore.ts"
import type { DatabaseUnavailable } from "@castellan/domain/DatabaseUnavailable.ts"
import * as given from "@castellan/testkit/given.ts"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Context, DateTime, Effect, Exit, Layer, Option, Redacted, Schedule } from "effect"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { rm } from "node:fs/promises"
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
    Effect.retry({ schedule: Schedule.spaced("10 millis"), times: 20_000 })
  )

it.layer(Directory.layer, { excludeTestServices: true })("The embedded database", (it) => {
  it.effect("loses no committed row when its process is killed", () =>
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

  it.effect("releases the leases of a dead server when the next server opens it", () =>
    Effect.gen(function* () {
      const database = Stores.layer.pipe(Layer.provide(Db.layerPglite({ directory: yield* Directory })), Layer.fresh)
      const later = DateTime.addDuration(yield* DateTime.now, "1 hour")
      const key = IdempotencyKey.make("a key")
      const asked = (nonce: string) => Effect.map(DateTime.now, (at) => ({ request: "one", nonce, at }))
      const image = ImageKey.make("everyone/something")
      const left = yield* Effect.gen(function* () {
        const scope = yield* given.scope
        const opening = given.session(scope, {
          lifecycle: given.lifecycle({ state: "provisioning", nextCheckAt: later })
        })
        const active = given.session(scope, { lifecycle: given.lifecycle({ state: "active", nextCheckAt: later }) })
        const app = given.app(scope, { nextCheckAt: later })
        const sessions = yield* SessionStore
        for (const session of [opening, active]) yield* sessions.add(scope, session)
        yield* (yield* AppStore).begin(scope, app)
        const claim = { key: image, account: null, builder: SandboxName.make("builder"), until: later }
        yield* (yield* BaseImageStore).claimBuild({ ...claim, staleBefore: later }, yield* DateTime.now)
        yield* (yield* IdempotencyStore).begin(scope, key, yield* asked("first"))
        return { scope, opening, active, app }
      }).pipe(Effect.provide(database))
      yield* Effect.gen(function* () {
        const { active, app, opening, scope } = left
        const sessions = yield* SessionStore
        const lookAt = (session: Session) =>
          Effect.map(sessions.get(scope, session.id), (one) => Option.getOrThrow(one).lifecycle.nextCheckAt!)
        const isDue = (moment: DateTime.Utc) =>
          Effect.map(DateTime.now, (now) => DateTime.isLessThanOrEqualTo(moment, now))
        assert.isTrue(yield* isDue(yield* lookAt(opening)))
        assert.isFalse(yield* isDue(yield* lookAt(active)))
        assert.isTrue(yield* isDue(Option.getOrThrow(yield* (yield* AppStore).get(scope, app.name)).nextCheckAt!))
        const { leaseExpiresAt: builderUntil } = Option.getOrThrow(yield* (yield* BaseImageStore).find(image))
        assert.isTrue(yield* isDue(builderUntil!))
        const again = yield* (yield* IdempotencyStore).begin(scope, key, yield* asked("second"))
        assert.deepStrictEqual({ ...again }, { _tag: "First", nonce: "first" })
      }).pipe(Effect.provide(database))
    }).pipe(Effect.scoped)
  )

  it.effect("refuses to be opened twice, and says which server has it open", () =>
    Effect.gen(function* () {
      const directory = yield* Directory
      const { child, said } = writing(directory)
      const exited = once(child, "exit")
      yield* Effect.addFinalizer(() =>
        Effect.promise(() => {
          child.kill("SIGKILL")
          return exited
        })
      )
      yield* until(() => said.length > 1)
      const refused = yield* Effect.flip(Effect.scoped(Layer.build(Db.layerPglite({ directory }))))
      assert.include(refused.message, `${directory} is in use by another Castellan server`)
    }).pipe(Effect.scoped)
  )

  // The last one, since nothing is left to open then.
  it.effect("fails every statement with the reason once its directory is removed", () =>
    Effect.gen(function* () {
      const directory = yield* Directory
      const { kysely } = yield* Db.Db
      const asked = Effect.map(
        Effect.exit(Db.query(() => kysely.selectFrom("accounts").select("id").execute())),
        (exit) => (Exit.isSuccess(exit) ? "answered" : (Cause.squash(exit.cause) as DatabaseUnavailable).reason)
      )
      assert.strictEqual(yield* asked, "answered")
      yield* Effect.promise(() => rm(directory, { recursive: true }))
      assert.strictEqual(yield* asked, "The data directory is missing")
    }).pipe(
      Effect.provide(Layer.unwrap(Effect.map(Directory, (directory) => Db.layerPglite({ directory })))),
      Effect.scoped
    )
  )
})

describe("A Postgres server", () => {
  it.live("that can't be reached is reported by its variable, without its password", () =>
    Effect.gen(function* () {
      const url = Redacted.make("postgres://user:hunter2@127.0.0.1:1/none")
      const { message } = yield* Effect.flip(Effect.scoped(Layer.build(Db.layerPostgres({ url }))))
      assert.match(message, /^DATABASE_URL .*ECONNREFUSED/)
      assert.notInclude(message, "hunter2")
    })
  )
})
