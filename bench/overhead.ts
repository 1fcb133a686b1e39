/** Measures the overhead of the control plane alone: in-memory provider, embedded database. */
import * as Db from "@castellan/adapters/postgres/Db.ts"
import * as Stores from "@castellan/adapters/postgres/stores.ts"
import * as PgBossTaskRunner from "@castellan/adapters/tasks/PgBossTaskRunner.ts"
import { AccountSandbox } from "@castellan/domain/account/AccountSandbox.ts"
import { AccountStore } from "@castellan/domain/account/AccountStore.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { ApiKeys } from "@castellan/domain/identity/ApiKeys.ts"
import { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { TaskRunner } from "@castellan/domain/task/TaskRunner.ts"
import * as Castellan from "@castellan/http/server/Castellan.ts"
import * as Server from "@castellan/http/server/Server.ts"
import * as MemoryRepoHost from "@castellan/testkit/fakes/repo/MemoryRepoHost.ts"
import * as MemorySandbox from "@castellan/testkit/fakes/sandbox/MemorySandbox.ts"
import * as given from "@castellan/testkit/given.ts"
import { Context, DateTime, Duration, Effect, Layer, Logger, Option, Redacted } from "effect"
import { HttpEffect } from "effect/http"
import { join } from "node:path"
import { dataDirectory } from "./castellan.ts"
import { columns, heading, row, type Size, timed } from "./figures.ts"

export const about = "Create and list on the control plane alone: in-memory provider, embedded database, no network."

const sizes = {
  whole: { warmups: 20, times: 200, accounts: [1, 100, 10_000] },
  quick: { warmups: 1, times: 5, accounts: [1, 100, 200] }
}

const spent: Record<string, number> = {}
const asked: Record<string, number> = {}

type Member = (...args: ReadonlyArray<unknown>) => unknown

/** Wraps a port so that its calls are counted and timed under a name. */
const measured = <I, S extends object>(port: Context.Key<I, S>, name: string) =>
  Layer.effect(
    port,
    Effect.map(port, (real) => {
      const measure =
        (member: Member) =>
        (...args: ReadonlyArray<unknown>) => {
          const result = member(...args)
          if (!Effect.isEffect(result)) return result
          return Effect.suspend(() => {
            const start = performance.now()
            asked[name] = (asked[name] ?? 0) + 1
            return Effect.ensuring(
              result as Effect.Effect<unknown>,
              Effect.sync(() => (spent[name] = (spent[name] ?? 0) + performance.now() - start))
            )
          })
        }
      return Object.fromEntries(
        Object.entries(real).map(([key, member]) => [
          key,
          typeof member === "function" ? measure(member as Member) : member
        ])
      ) as S
    })
  )

const options = { secret: Redacted.make(new Uint8Array(32).fill(1)), liveAtMost: 1_000_000 }

const world = (directory: string) => {
  const stores = Layer.merge(Stores.layer, PgBossTaskRunner.layer).pipe(Layer.provide(Db.layerPglite({ directory })))
  const ports = Layer.mergeAll(
    measured(IdentityStore, "auth"),
    measured(AccountStore, "store"),
    measured(TaskRunner, "queue"),
    measured(SandboxProvider, "provider")
  ).pipe(Layer.provideMerge(Layer.mergeAll(stores, MemorySandbox.layer, MemoryRepoHost.layer)))
  return Castellan.layer(options).pipe(Layer.provideMerge(ports), Layer.provideMerge(Logger.layer([])))
}

/** Sends a request many times and prints its duration and the share of each part. */
const phases = async (name: string, { times, warmups }: (typeof sizes)[Size], send: () => Promise<Response>) => {
  const ask = async () => {
    const response = await send()
    const text = await response.text()
    if (response.status !== 200) throw new Error(`${name} answered ${response.status}: ${text}`)
  }
  for (let i = 0; i < warmups; i++) await ask()
  for (const record of [spent, asked]) for (const key of Object.keys(record)) delete record[key]
  const whole: Array<number> = []
  for (let i = 0; i < times; i++) await timed(whole, ask)
  const total = whole.reduce((sum, time) => sum + time, 0)
  const parts = Object.entries(spent).map(([part, time]) => [part, time / times] as const)
  const rest = total / times - parts.reduce((sum, [, time]) => sum + time, 0)
  const means = [...parts, ["decode, encode, rest", rest] as const].map(([part, time]) => `${part} ${time.toFixed(2)}`)
  const calls = (asked["provider"] ?? 0) / times
  row(name, whole, `mean of each: ${means.join(", ")}; provider calls ${calls}`)
}

export const run = Effect.fnUntraced(function* (size: Size) {
  heading("The control plane alone: in-memory provider, embedded database, no network")
  const services = yield* Layer.build(world(join(yield* dataDirectory, "data")))
  const app = yield* Effect.provide(Server.make(options), services)
  const handler = HttpEffect.toWebHandler(Effect.provide(app, services))
  const newAccount = Effect.gen(function* () {
    const account = yield* given.account()
    const scope = AccountScope.ofOwner({ account: account.id })
    const { secret } = yield* (yield* ApiKeys).issue(scope, { name: "bench", expiresAt: null })
    return { scope, headers: { "x-api-key": Redacted.value(secret), "content-type": "application/json" } }
  }).pipe(Effect.provide(services))

  columns()
  const { headers } = yield* newAccount
  const create = (body: unknown) => () =>
    handler(new Request("http://bench/api/sandboxes", { method: "POST", headers, body: JSON.stringify(body) }))
  yield* Effect.promise(() => phases("create", sizes[size], create({})))
  yield* Effect.promise(() => phases("create with a command", sizes[size], create({ command: "true" })))

  for (const count of sizes[size].accounts) {
    const owner = yield* newAccount
    const store = Context.get(services, AccountStore)
    const provider = Context.get(services, SandboxProvider)
    const start = DateTime.makeUnsafe(1_700_000_000_000)
    for (let i = 0; i < count; i++) {
      const name = SandboxName.make(`sbx_bench${count}x${i}`)
      const createdAt = DateTime.add(start, { seconds: i })
      const row = {
        name,
        account: owner.scope.account,
        status: "pending",
        createdAt,
        expiresAt: null,
        reason: null,
        removedAt: null
      } as const
      yield* store.add(owner.scope, new AccountSandbox(row), count)
      if (i >= count - 100) yield* provider.create({ name, from: Option.none(), lifetime: Duration.minutes(30) })
    }
    const list = () => handler(new Request("http://bench/api/sandboxes", { headers: owner.headers }))
    yield* Effect.promise(() => phases(`list, account of ${count} sandboxes`, sizes[size], list))
  }
})
