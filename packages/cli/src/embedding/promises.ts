/** The use cases as promises, for services that don't speak Effect, and the API's fetch function over the same. */
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

/** A program with its arguments, never through a shell, and how long it may take: 15 minutes if nobody says. */
export const command = (
  program: string,
  args: ReadonlyArray<string> = [],
  more: { readonly cwd?: string; readonly env?: Record<string, string>; readonly timeout?: Duration.Input } = {}
) => ({
  command: new Command({ command: program, args, cwd: more.cwd ?? null, env: more.env ?? {} }),
  timeout: more.timeout === undefined ? defaultTimeout : Duration.fromInputUnsafe(more.timeout)
})

const scoped = "scoped" as const

/** All that an account does, as `as` gives it. */
const useCases = Effect.fnUntraced(function* (
  services: Context.Context<web.Services>,
  actor: Account,
  target: AccountId
) {
  const access = yield* Access
  const withActor = services.pipe(Context.add(CurrentActor, actor), Context.add(CurrentCredential, ofAccount(actor)))
  const callerFor = Effect.fnUntraced(function* (account: AccountId) {
    const scope = yield* access.scopeOf(account)
    // A membership may end while what is given here is kept.
    return { scope, check: access.scopeOf(account), lost: access.untilLost(scope), services: withActor }
  }, Effect.provide(withActor))
  const caller = yield* callerFor(target)
  // Sessions and keys are nobody's but the account's: membership does not count.
  const alone = yield* callerFor(actor.id)
  return {
    /** Sandboxes of the account: new ones, and which there are. */
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
    /** What runs, and has run. */
    runs: promised(
      yield* TaskRuns,
      { get: scoped, list: scoped, log: scoped, awaitEnd: scoped, cancel: scoped },
      caller
    ),
    /** The repository and the snapshot to come back to. */
    environment: {
      ...promised(yield* Environments, { view: scoped, change: scoped, readFile: scoped, clear: scoped }, caller),
      setup: promised(yield* Setups, { start: 0 }, caller).start
    },
    /** Sandboxes with a repository that sleep and wake. */
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
        { create: 0, find: 0, end: 0, isAlive: "plain", used: "plain", wake: "plain" },
        caller
      ),
      ...promised(yield* AppFiles, { files: "plain", diagnose: "plain", install: "plain", apply: "plain" }, caller)
    },
    /** API keys, for those who come by HTTP as well. */
    keys: promised(yield* ApiKeys, { issue: scoped, list: scoped, revoke: scoped }, alone),
    /** The organizations that the account is in. */
    organizations: promised(
      yield* Organizations,
      { create: "plain", list: "effect", members: "plain", invite: "plain", accept: "plain", remove: "plain" },
      alone
    )
  }
})

/** What an account does, as promises. What goes wrong is thrown as an instance of its own error class. */
export type AccountUseCases = Effect.Success<ReturnType<typeof useCases>>

export interface Promises extends web.WebHandler {
  /**
   * What that account does; for another account or an organization (`on`) if it may act for that. The embedding service
   * has found out who is asking. Throws `AccountForbidden` where there is no such account, or it may not.
   */
  readonly as: (account: string, on?: string) => Promise<AccountUseCases>
  /** Makes an account; the same `nonce` gives the same one. */
  readonly createAccount: (wanted?: {
    readonly name?: string
    readonly email?: string
    readonly nonce?: string
  }) => Promise<Account>
}

/** The service that embeds us makes accounts as a platform admin does; it is nobody's account. */
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

/** What is no id of an account can only be a mistake of the program that gives it. */
const idOf = (text: string) => Effect.sync(() => inLowerCase(AccountId.make(text)))

/** Builds the ports, starts the workers, and gives the use cases as promises, and the API. */
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
