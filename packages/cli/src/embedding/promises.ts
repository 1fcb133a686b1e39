/** The use cases as promises, for services that don't use Effect, and the HTTP API as a fetch function. */
import { AccountSandboxes } from "@castellan/domain/account/AccountSandboxes.ts"
import { Environments } from "@castellan/domain/account/Environments.ts"
import { SandboxOperations } from "@castellan/domain/account/SandboxOperations.ts"
import { Setups } from "@castellan/domain/account/Setups.ts"
import { AppFiles } from "@castellan/domain/app/AppFiles.ts"
import { AppSandboxes } from "@castellan/domain/app/AppSandboxes.ts"
import { Access } from "@castellan/domain/identity/Access.ts"
import { Account, AccountId, inLowerCase } from "@castellan/domain/identity/Account.ts"
import { AccountForbidden } from "@castellan/domain/identity/AccountScope.ts"
import { Accounts } from "@castellan/domain/identity/Accounts.ts"
import { ApiKeys } from "@castellan/domain/identity/ApiKeys.ts"
import { CurrentCredential, ofAccount } from "@castellan/domain/identity/Credential.ts"
import { CurrentActor } from "@castellan/domain/identity/CurrentActor.ts"
import { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { Organizations } from "@castellan/domain/identity/Organizations.ts"
import { Command } from "@castellan/domain/sandbox/Command.ts"
import { Sessions } from "@castellan/domain/session/Sessions.ts"
import { defaultTimeout } from "@castellan/domain/task/CommandRun.ts"
import { TaskRuns } from "@castellan/domain/task/TaskRuns.ts"
import { Context, DateTime, Duration, Effect, Exit, Layer, Option, Scope } from "effect"
import { SecureRandom } from "effect/crypto"
import * as Castellan from "@castellan/http/server/Castellan.ts"
import { promised } from "./Promised.ts"
import * as web from "./web.ts"

/** A program with its arguments, run without a shell, and its timeout, 15 minutes by default. */
export const command = (
  program: string,
  args: ReadonlyArray<string> = [],
  more: { readonly cwd?: string; readonly env?: Record<string, string>; readonly timeout?: Duration.Input } = {}
) => ({
  command: new Command({ command: program, args, cwd: more.cwd ?? null, env: more.env ?? {} }),
  timeout: more.timeout === undefined ? defaultTimeout : Duration.fromInputUnsafe(more.timeout)
})

const scoped = "scoped" as const

/** The use cases of an account, acting for `target`. */
const useCases = Effect.fnUntraced(function* (
  services: Context.Context<web.Services>,
  actor: Account,
  target: AccountId
) {
  const access = yield* Access
  const withActor = services.pipe(Context.add(CurrentActor, actor), Context.add(CurrentCredential, ofAccount(actor)))
  const callerFor = Effect.fnUntraced(function* (account: AccountId) {
    const scope = yield* access.scopeOf(account)
    // The caller may keep the use cases after a membership has ended, so each call checks access again.
    return { scope, check: access.scopeOf(account), lost: access.untilLost(scope), services: withActor }
  }, Effect.provide(withActor))
  const caller = yield* callerFor(target)
  // Sessions and keys belong to the account itself: membership gives no access to them.
  const alone = yield* callerFor(actor.id)
  return {
    /** Creates, lists and uses the sandboxes of the account. */
    sandboxes: {
      ...promised(yield* AccountSandboxes, { create: scoped, list: scoped, find: scoped }, caller),
      ...promised(
        yield* SandboxOperations,
        {
          get: scoped,
          run: scoped,
          readFile: scoped,
          writeFile: scoped,
          listFiles: scoped,
          snapshot: scoped,
          fork: 1,
          extend: scoped,
          remove: scoped
        },
        caller
      )
    },
    /** Command runs and setups, current and past. */
    runs: promised(
      yield* TaskRuns,
      { get: scoped, list: scoped, log: scoped, awaitEnd: scoped, cancel: scoped },
      caller
    ),
    /** The account's repository and snapshot. */
    environment: {
      ...promised(yield* Environments, { view: scoped, change: scoped, readFile: scoped, clear: scoped }, caller),
      setup: promised(yield* Setups, { start: 0 }, caller).start
    },
    /** Sessions: sandboxes with a repository that hibernate and resume. */
    sessions: promised(
      yield* Sessions,
      {
        create: scoped,
        get: scoped,
        list: scoped,
        change: scoped,
        open: scoped,
        openOnce: 1,
        reconnect: scoped,
        recordActivity: scoped,
        extend: scoped,
        hibernate: scoped,
        run: scoped
      },
      alone
    ),
    /** Web apps. */
    apps: {
      ...promised(
        yield* AppSandboxes,
        { create: 0, find: 0, terminate: 0, isAlive: "plain", recordActivity: "plain", resume: "plain" },
        caller
      ),
      ...promised(yield* AppFiles, { files: "plain", diagnose: "plain", install: "plain", apply: "plain" }, caller)
    },
    /** API keys for the HTTP API. */
    keys: promised(yield* ApiKeys, { issue: scoped, list: scoped, revoke: scoped }, alone),
    /** Organizations of the account and their members. */
    organizations: promised(
      yield* Organizations,
      { create: "plain", list: "effect", members: "plain", invite: "plain", accept: "plain", remove: "plain" },
      alone
    )
  }
})

/** The use cases of an account as promises, which reject with instances of the error classes. */
export type AccountUseCases = Effect.Success<ReturnType<typeof useCases>>

export interface Promises extends web.WebHandler {
  /**
   * The use cases of an account, acting for itself or for another account or organization (`on`). The embedding service
   * has authenticated the account. Rejects with `AccountForbidden` if there is no such account, or it may not act for `on`.
   */
  readonly as: (account: string, on?: string) => Promise<AccountUseCases>
  /** Creates an account. Calls with the same `nonce` create one account. */
  readonly createAccount: (wanted?: {
    readonly name?: string
    readonly email?: string
    readonly nonce?: string
  }) => Promise<Account>
}

/** The actor that creates accounts for the embedding service. It has a platform admin's rights and is not stored. */
const embedder = Effect.map(
  DateTime.now,
  (createdAt) =>
    new Account({
      id: AccountId.make(SecureRandom.uuidV4Unsafe()),
      name: "the embedding service",
      email: null,
      platformAdmin: true,
      createdAt
    })
)

/** Dies on an invalid id, which is a bug of the calling program. */
const idOf = (text: string) => Effect.sync(() => inLowerCase(AccountId.make(text)))

/** Builds the ports and starts the workers. Returns the use cases as promises and the HTTP API as a fetch function. */
export const make = async <E>(ports: Layer.Layer<Castellan.Ports, E>, options: web.WebOptions): Promise<Promises> => {
  const scope = Scope.makeUnsafe()
  const dispose = () => Effect.runPromise(Scope.close(scope, Exit.void))
  try {
    const built = Layer.build(Castellan.layer(options).pipe(Layer.provideMerge(ports)))
    const services = await Effect.runPromise(Effect.provideService(built, Scope.Scope, scope))
    const serving = Effect.provideService(web.handlerOver(services, options), Scope.Scope, scope)
    const handler = await Effect.runPromise(serving)
    const run = Effect.runPromiseWith(services)
    const as = Effect.fnUntraced(function* (account: string, on: string) {
      const id = yield* idOf(account)
      const actor = yield* (yield* IdentityStore).findAccount(id)
      if (Option.isNone(actor)) return yield* new AccountForbidden({ account: id })
      return yield* useCases(services, actor.value, yield* idOf(on))
    })
    return {
      as: (account, on = account) => run(as(account, on)),
      createAccount: ({ name, email, nonce } = {}) =>
        run(
          Effect.gen(function* () {
            const wanted = { name: name ?? null, email: email ?? null, nonce: Option.fromUndefinedOr(nonce) }
            return yield* Effect.provideServiceEffect((yield* Accounts).create(wanted), CurrentActor, embedder)
          })
        ),
      handler,
      dispose
    }
  } catch (cause) {
    await dispose()
    throw cause
  }
}
