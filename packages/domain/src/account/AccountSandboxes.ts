import { Context, DateTime, Duration, Effect, Layer, Option, Schema } from "effect"
import { SecureRandom } from "effect/crypto/SecureRandom"
import type { ChangeReason } from "../ChangeReason.ts"
import { AccountScope } from "../identity/AccountScope.ts"
import { annotateIds, trackOutcome, metrics } from "../Metrics.ts"
import { FailureReason, permanent } from "../FailureReason.ts"
import { givenOrNew } from "../newNonce.ts"
import type { Page, PageOf } from "../Page.ts"
import { providerReason } from "../sandbox/providerReason.ts"
import { Command } from "../sandbox/Command.ts"
import type { Sandbox } from "../sandbox/Sandbox.ts"
import { SandboxName } from "../sandbox/SandboxName.ts"
import { SandboxProvider, type SandboxUnavailable } from "../sandbox/SandboxProvider.ts"
import type { SandboxQuotaReached } from "../sandbox/SandboxQuota.ts"
import { defaultTimeout } from "../task/CommandRun.ts"
import type { RunId } from "../task/TaskRun.ts"
import { TaskRuns } from "../task/TaskRuns.ts"
import { InternalCause } from "../InternalCause.ts"
import type { SnapshotId } from "../sandbox/Snapshot.ts"
import { AccountSandbox } from "./AccountSandbox.ts"
import { AccountStore, type ObservedState } from "./AccountStore.ts"
import { bootable } from "./Environment.ts"
import { EnvironmentStore } from "./EnvironmentStore.ts"

type Store = AccountStore["Service"]
type Provider = SandboxProvider["Service"]

/** The provider created no sandbox. The row records why. */
export class SandboxNotCreated extends Schema.TaggedError<SandboxNotCreated>()("SandboxNotCreated", {
  name: SandboxName,
  reason: FailureReason,
  cause: InternalCause
}) {}

/** What to run in a new sandbox. */
export type Work =
  | { readonly _tag: "Command"; readonly command: Command }
  /** Runs the configured agent with the prompt as its last argument, in `cwd`, with `env` added to its environment. */
  | {
      readonly _tag: "Prompt"
      readonly prompt: string
      readonly cwd?: string | null
      readonly env?: Readonly<Record<string, string>>
    }

export interface NewSandbox {
  readonly work: Option.Option<Work>
  /** Time limit of the work; 15 minutes by default. */
  readonly timeout?: Duration.Duration
  /** Idempotency key: the same nonce returns the same sandbox and the same run. */
  readonly nonce: Option.Option<string>
  /** The snapshot to boot from; by default the account's saved one. */
  readonly from?: SnapshotId
}

export interface CreatedSandbox {
  readonly sandbox: AccountSandbox
  /** The run of its command, if it has one. */
  readonly run: Option.Option<RunId>
}

/** Age in milliseconds at which a `pending` row counts as abandoned: longer than a create usually takes. */
const abandonedAfter = 60_000

/** Rows that one pass of the housekeeping handles. */
const rowsPerPass = 100

/** Rows that `create` refreshes at most before it reports that the quota is reached. */
const maxRefreshedRows = 1000

interface Options {
  /** How long a new sandbox runs before its provider stops it. */
  readonly lifetime: Duration.Duration
  /** The program and first arguments of the agent; a prompt is appended. */
  readonly agent: readonly [string, ...ReadonlyArray<string>]
  /** Live sandboxes an account may have, not counting those of sessions. */
  readonly liveAtMost: number
  /** How long the files of a stopped sandbox are kept. */
  readonly keepStopped: Duration.Duration
}

/** Creates, lists and cleans up the sandboxes of accounts. */
export class AccountSandboxes extends Context.Service<
  AccountSandboxes,
  {
    /**
     * Creates a running sandbox, booted from the account's saved snapshot if that is usable, and queues its command if
     * there is one. Writes the row before it calls the provider.
     */
    readonly create: (
      scope: AccountScope,
      wanted: NewSandbox
    ) => Effect.Effect<CreatedSandbox, SandboxNotCreated | SandboxQuotaReached>
    /**
     * The account's sandboxes, newest first, in their current state. Calls the provider once for the whole page, and
     * returns the last observed states if the provider does not answer. Wakes none.
     */
    readonly list: (scope: AccountScope, page: Page) => Effect.Effect<PageOf<AccountSandbox>>
    /** One sandbox in its current state; none if it belongs to another account. */
    readonly find: (scope: AccountScope, name: SandboxName) => Effect.Effect<Option.Option<AccountSandbox>>
    /**
     * Finishes interrupted creates of all accounts: adopts the sandboxes that exist and marks the other rows as failed.
     * Returns the number of rows it settled.
     */
    readonly reconcile: Effect.Effect<number, SandboxUnavailable>
    /** Removes the files of sandboxes of all accounts that stopped more than `keepStopped` ago; returns how many. */
    readonly tidy: Effect.Effect<number, SandboxUnavailable>
  }
>()("domain/account/AccountSandboxes") {
  static readonly layer = (options: Options) =>
    Layer.effect(
      AccountSandboxes,
      Effect.gen(function* () {
        const store = yield* AccountStore
        const environments = yield* EnvironmentStore
        const provider = yield* SandboxProvider
        const runs = yield* TaskRuns
        const random = yield* SecureRandom
        const refresh = refreshWith(store, provider)
        const add = addWithinQuota(store, refresh, options.liveAtMost)
        const boot = bootWith(store, environments, provider, options.lifetime)

        /** A sandbox without its command is useless: remove it if the command could not be queued. */
        const discard = (scope: AccountScope, name: SandboxName) =>
          Effect.andThen(
            Effect.ignore(provider.remove(name)),
            store.recordObserved(scope, [failed(name, "Its command could not be queued")])
          )

        const create = Effect.fn("AccountSandboxes.create")(
          function* (scope: AccountScope, wanted: NewSandbox) {
            const nonce = yield* givenOrNew(random, wanted.nonce)
            const intent = new AccountSandbox({
              name: SandboxName.make(`sbx_${nonce}`),
              account: scope.account,
              status: "pending",
              createdAt: yield* DateTime.now,
              expiresAt: null,
              reason: null,
              removedAt: null
            })
            const row = yield* add(scope, intent)
            if (Option.isNone(row))
              return yield* Effect.die(new Error("The name of a new sandbox belongs to another account"))
            if (row.value.removedAt !== null)
              return yield* new SandboxNotCreated({ name: intent.name, reason: deleted })
            const sandbox = yield* boot(scope, row.value, wanted.from).pipe(
              annotateIds({ account: scope.account, sandbox: intent.name })
            )
            if (Option.isNone(wanted.work)) return { sandbox, run: Option.none<RunId>() }
            const command = commandFor(options.agent, wanted.work.value)
            const timeout = wanted.timeout ?? defaultTimeout
            const run = yield* runs
              .startCommand(scope, sandbox.name, { command, timeout, nonce: Option.some(nonce) })
              .pipe(Effect.tapCause(() => discard(scope, sandbox.name)))
            return { sandbox, run: Option.some(run.id) }
          },
          trackOutcome(metrics.creates, { kind: "sandbox" }, "outcome"),
          Effect.uninterruptible
        )

        const list = Effect.fn("AccountSandboxes.list")(function* (scope: AccountScope, page: Page) {
          const { next, rows } = yield* store.list(scope, page)
          return { rows: yield* refresh(scope, rows), next }
        })

        const find = Effect.fn("AccountSandboxes.find")(function* (scope: AccountScope, name: SandboxName) {
          const row = yield* store.get(scope, name)
          const [fresh] = yield* refresh(scope, Option.toArray(row))
          return Option.fromUndefinedOr(fresh)
        })

        return AccountSandboxes.of({
          create,
          list,
          find,
          reconcile: reconcileWith(store, provider),
          tidy: tidyWith(store, provider, options.keepStopped)
        })
      })
    )
}

const commandFor = (agent: Options["agent"], work: Work): Command => {
  if (work._tag === "Command") return work.command
  const [command, ...args] = agent
  return new Command({ command, args: [...args, work.prompt], cwd: work.cwd ?? null, env: work.env ?? {} })
}

/** Returns rows in their current state and records what changed; unchanged rows keep their identity. */
const refreshWith = (store: Store, provider: Provider) =>
  Effect.fnUntraced(function* (scope: AccountScope, rows: ReadonlyArray<AccountSandbox>) {
    const present = rows.filter((row) => row.removedAt === null)
    if (present.length === 0) return rows
    const observed = yield* provider.findMany(present.map((row) => row.name)).pipe(
      Effect.asSome,
      Effect.catch((failure) =>
        Effect.as(
          Effect.logWarning("Failed to refresh sandboxes: returning their last known state", failure),
          Option.none()
        )
      )
    )
    if (Option.isNone(observed)) return rows
    const byName = new Map(observed.value.map((sandbox) => [sandbox.name, sandbox]))
    const fresh = rows.map((row) => withObserved(row, byName.get(row.name)))
    const changed = fresh
      .filter((sandbox, index) => sandbox !== rows[index])
      .map((sandbox): ObservedState => (byName.has(sandbox.name) ? sandbox : { ...sandbox, code: "provider_lost" }))
    if (changed.length > 0) yield* store.recordObserved(scope, changed)
    return fresh
  })

/** Adds a row. If the quota is reached, first refreshes the account's rows: some may have stopped unnoticed. */
const addWithinQuota = (store: Store, refresh: ReturnType<typeof refreshWith>, limit: number) =>
  Effect.fnUntraced(function* (scope: AccountScope, intent: AccountSandbox) {
    return yield* store.add(scope, intent, limit).pipe(
      Effect.catchTag("SandboxQuotaReached", (reached) =>
        Effect.gen(function* () {
          let cursor: Page["cursor"] = null
          for (let refreshed = 0; refreshed < maxRefreshedRows; refreshed += rowsPerPass) {
            const { next, rows }: PageOf<AccountSandbox> = yield* store.list(scope, { limit: rowsPerPass, cursor })
            const fresh = yield* refresh(scope, rows)
            if (fresh.some((row, index) => row !== rows[index])) {
              const added = yield* Effect.option(store.add(scope, intent, limit))
              if (Option.isSome(added)) return added.value
            }
            if (next === null) break
            cursor = next
          }
          return yield* reached
        })
      )
    )
  })

/** Creates the sandbox of a row at the provider and records the outcome in the row. */
const bootWith = (
  store: Store,
  environments: EnvironmentStore["Service"],
  provider: Provider,
  lifetime: Duration.Duration
) => {
  const createFrom = (name: SandboxName, from: Option.Option<SnapshotId>) => provider.create({ name, from, lifetime })

  /** Boots from `from`, or else from the account's saved snapshot. A saved snapshot that is gone is forgotten. */
  const createAtProvider = Effect.fnUntraced(function* (scope: AccountScope, name: SandboxName, from?: SnapshotId) {
    if (from !== undefined) return yield* createFrom(name, Option.some(from))
    const now = yield* DateTime.now
    const saved = Option.flatMap(yield* environments.get(scope), (environment) => bootable(environment, now))
    return yield* createFrom(name, saved).pipe(
      Effect.catchTag("SnapshotGone", ({ id }) =>
        // Forget it only after a fresh boot has worked: a provider that fails at both may be wrong about the snapshot.
        Effect.logWarning("Saved snapshot is gone: booting a fresh sandbox", { snapshot: id }).pipe(
          Effect.andThen(createFrom(name, Option.none())),
          Effect.tap(environments.forget(scope, id))
        )
      )
    )
  })

  return Effect.fnUntraced(function* (scope: AccountScope, row: AccountSandbox, from?: SnapshotId) {
    const created = yield* createAtProvider(scope, row.name, from).pipe(
      Effect.catch((failure) =>
        Effect.gen(function* () {
          yield* Effect.logWarning("Failed to create sandbox", failure)
          const reason = failure._tag === "SnapshotGone" ? snapshotGone : providerReason(failure)
          yield* store.recordObserved(scope, [failed(row.name, reason.sentence)])
          return yield* new SandboxNotCreated({ name: row.name, reason, cause: failure })
        })
      )
    )
    // The row was deleted during the create: no one else would stop this sandbox.
    if (!(yield* store.recordObserved(scope, [created])).has(row.name)) {
      yield* Effect.ignore(provider.remove(row.name))
      return yield* new SandboxNotCreated({ name: row.name, reason: deleted })
    }
    return withObserved(row, created)
  })
}

const reconcileWith = (store: Store, provider: Provider) =>
  Effect.gen(function* () {
    const before = DateTime.subtractDuration(yield* DateTime.now, abandonedAfter)
    const rows = yield* store.listUnfinished(before, rowsPerPass)
    if (rows.length === 0) return 0
    const observed = yield* provider.findMany(rows.map((row) => row.name))
    const byName = new Map(observed.map((sandbox) => [sandbox.name, sandbox]))
    for (const row of rows) {
      const state = byName.get(row.name) ?? failed(row.name, "The server stopped before the sandbox was created")
      yield* store.recordObserved(AccountScope.ofOwner(row), [state])
    }
    return rows.length
  }).pipe(Effect.withSpan("AccountSandboxes.reconcile"))

const tidyWith = (store: Store, provider: Provider, keepStopped: Duration.Duration) =>
  Effect.gen(function* () {
    const now = yield* DateTime.now
    const rows = yield* store.listExpired(DateTime.subtractDuration(now, keepStopped), rowsPerPass)
    if (rows.length === 0) return 0
    const observed = yield* provider.findMany(rows.map((row) => row.name))
    const running = new Map(
      observed.flatMap((sandbox) => (sandbox.status === "running" ? [[sandbox.name, sandbox]] : []))
    )
    let removed = 0
    for (const row of rows) {
      const scope = AccountScope.ofOwner(row)
      const alive = running.get(row.name)
      if (alive !== undefined) {
        yield* store.recordObserved(scope, [alive])
        continue
      }
      const recorded = store.recordRemoved(scope, [row.name], now, retentionOver)
      yield* Effect.andThen(provider.remove(row.name), recorded).pipe(
        Effect.andThen(Effect.sync(() => void removed++)),
        // One failed removal must not block the others.
        Effect.catch((failure) =>
          Effect.logWarning("Failed to remove files of stopped sandbox", { sandbox: row.name }, failure)
        )
      )
    }
    return removed
  }).pipe(Effect.withSpan("AccountSandboxes.tidy"))

const retentionOver: ChangeReason = {
  code: "retention_over",
  sentence: "Its files were removed some time after it stopped"
}

const snapshotGone = permanent("snapshot_gone", "The provider no longer has the snapshot")

const deleted = permanent("sandbox_deleted", "The sandbox was deleted while it was being created")

const failed = (name: SandboxName, reason: string): ObservedState => ({
  name,
  status: "failed",
  expiresAt: null,
  code: "provision_failed",
  reason
})

/** The row updated to the observed state; the same object if nothing changed. */
const withObserved = (row: AccountSandbox, observed: Sandbox | undefined): AccountSandbox => {
  if (observed === undefined) {
    return row.status === "running" || row.status === "stopping"
      ? new AccountSandbox({ ...row, status: "stopped", reason: "The provider no longer has it" })
      : row
  }
  const same =
    observed.status === row.status &&
    observed.reason === row.reason &&
    observed.expiresAt.epochMilliseconds === row.expiresAt?.epochMilliseconds
  return same
    ? row
    : new AccountSandbox({ ...row, status: observed.status, expiresAt: observed.expiresAt, reason: observed.reason })
}
