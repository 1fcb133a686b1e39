import { Context, DateTime, Duration, Effect, Layer, Option, Schema } from "effect"
import { SecureRandom } from "effect/crypto/SecureRandom"
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

/** The provider made no sandbox; its row says so. */
export class SandboxNotCreated extends Schema.TaggedError<SandboxNotCreated>()("SandboxNotCreated", {
  name: SandboxName,
  reason: FailureReason,
  cause: InternalCause
}) {}

/** What to run in a new sandbox. */
export type Work =
  | { readonly _tag: "Command"; readonly command: Command }
  /** The configured agent runs with the prompt as its last argument, in `cwd`, with `env` added to its environment. */
  | {
      readonly _tag: "Prompt"
      readonly prompt: string
      readonly cwd?: string | null
      readonly env?: Readonly<Record<string, string>>
    }

export interface NewSandbox {
  readonly work: Option.Option<Work>
  /** How long the work may take; 15 minutes if it is left out. */
  readonly timeout?: Duration.Duration
  /** Makes asking repeatable: the same nonce gives the same sandbox and the same run. */
  readonly nonce: Option.Option<string>
  /** The snapshot it boots from; the account's saved one if none is named. */
  readonly from?: SnapshotId
}

export interface CreatedSandbox {
  readonly sandbox: AccountSandbox
  /** The run of its command, if it was given one. */
  readonly run: Option.Option<RunId>
}

/** How old a `pending` row must be before it counts as left behind, in milliseconds: longer than a create usually takes. */
const leftBehindAfter = 60_000

/** Rows one pass of the housekeeping takes; the next pass takes the rest. */
const rowsAPass = 100

/** Sandboxes of an account that are looked at again before it is told that it has too many. */
const lookedAtAgain = 1000

export class AccountSandboxes extends Context.Service<
  AccountSandboxes,
  {
    /**
     * A new running sandbox, booted from the account's saved snapshot while that is good, with its command queued if
     * there is one. Its row is written before it is asked for.
     */
    readonly create: (
      scope: AccountScope,
      wanted: NewSandbox
    ) => Effect.Effect<CreatedSandbox, SandboxNotCreated | SandboxQuotaReached>
    /**
     * The account's sandboxes, newest first, each as it is now: one question to the provider for the whole page, and
     * what was last known where the provider does not answer. Wakes none.
     */
    readonly list: (scope: AccountScope, page: Page) => Effect.Effect<PageOf<AccountSandbox>>
    /** One sandbox as `list` gives it; none that is another account's. */
    readonly find: (scope: AccountScope, name: SandboxName) => Effect.Effect<Option.Option<AccountSandbox>>
    /**
     * Finishes what creates that were cut off left behind, of all accounts: adopts the sandboxes that came to be and
     * says of the others why they did not. Gives the number of rows it settled.
     */
    readonly reconcile: Effect.Effect<number, SandboxUnavailable>
    /** Removes the files of sandboxes that stopped long ago, of all accounts; gives their number. */
    readonly tidy: Effect.Effect<number, SandboxUnavailable>
  }
>()("domain/account/AccountSandboxes") {
  static readonly layer = (options: {
    /** How long a new sandbox runs before its provider stops it. */
    readonly lifetime: Duration.Duration
    /** The program and first arguments that a prompt is appended to. */
    readonly agent: readonly [string, ...ReadonlyArray<string>]
    /** Sandboxes of an account that may live at once; those of sessions are not among them. */
    readonly liveAtMost: number
    /** How long the files of a stopped sandbox are kept. */
    readonly keepStopped: Duration.Duration
  }) =>
    Layer.effect(
      AccountSandboxes,
      Effect.gen(function* () {
        const store = yield* AccountStore
        const environments = yield* EnvironmentStore
        const provider = yield* SandboxProvider
        const runs = yield* TaskRuns
        const random = yield* SecureRandom

        const commandFor = (work: Work): Command => {
          if (work._tag === "Command") return work.command
          const [command, ...args] = options.agent
          return new Command({ command, args: [...args, work.prompt], cwd: work.cwd ?? null, env: work.env ?? {} })
        }

        /** Nobody gets a sandbox whose command will never run: without its run it is not kept. */
        const takeBack = (scope: AccountScope, name: SandboxName) =>
          provider
            .remove(name)
            .pipe(
              Effect.ignore,
              Effect.andThen(store.recordObserved(scope, [failed(name, "Its command could not be queued")]))
            )

        const ask = (name: SandboxName, from: Option.Option<SnapshotId>) =>
          provider.create({ name, from, lifetime: options.lifetime })

        /** A saved snapshot that the provider no longer has is forgotten, and does not stand in the way. */
        const askFor = Effect.fnUntraced(function* (scope: AccountScope, name: SandboxName, from?: SnapshotId) {
          if (from !== undefined) return yield* ask(name, Option.some(from))
          const now = yield* DateTime.now
          const saved = Option.flatMap(yield* environments.get(scope), (environment) => bootable(environment, now))
          return yield* ask(name, saved).pipe(
            Effect.catchTag("SnapshotGone", ({ id }) =>
              // Forgotten last: where the provider makes no fresh sandbox either, its word on the snapshot counts for little.
              Effect.logWarning("Saved snapshot is gone: booting a fresh sandbox", { snapshot: id }).pipe(
                Effect.andThen(ask(name, Option.none())),
                Effect.tap(environments.forget(scope, id))
              )
            )
          )
        })

        const boot = Effect.fnUntraced(function* (scope: AccountScope, row: AccountSandbox, from?: SnapshotId) {
          const made = yield* askFor(scope, row.name, from).pipe(
            Effect.catch((failure) =>
              Effect.gen(function* () {
                yield* Effect.logWarning("no sandbox was made", failure)
                const reason = failure._tag === "SnapshotGone" ? snapshotGone : providerReason(failure)
                yield* store.recordObserved(scope, [failed(row.name, reason.sentence)])
                return yield* new SandboxNotCreated({ name: row.name, reason, cause: failure })
              })
            )
          )
          // It was deleted while it was being made: then nobody would ever end it.
          if (!(yield* store.recordObserved(scope, [made])).has(row.name)) {
            yield* Effect.ignore(provider.remove(row.name))
            return yield* new SandboxNotCreated({ name: row.name, reason: deleted })
          }
          return withObserved(row, made)
        })

        /** Before an account is told that it has too many, those that stopped unnoticed are found, the newest first. */
        const add = (scope: AccountScope, intent: AccountSandbox) =>
          store.add(scope, intent, options.liveAtMost).pipe(
            Effect.catchTag("SandboxQuotaReached", (reached) =>
              Effect.gen(function* () {
                let cursor: Page["cursor"] = null
                for (let looked = 0; looked < lookedAtAgain; looked += rowsAPass) {
                  const { next, rows }: PageOf<AccountSandbox> = yield* store.list(scope, { limit: rowsAPass, cursor })
                  const fresh = yield* refresh(scope, rows)
                  if (fresh.some((row, index) => row !== rows[index])) {
                    const added = yield* Effect.option(store.add(scope, intent, options.liveAtMost))
                    if (Option.isSome(added)) return added.value
                  }
                  if (next === null) break
                  cursor = next
                }
                return yield* reached
              })
            )
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
            if (Option.isNone(row)) return yield* Effect.die(new Error("a new sandbox's name is another account's"))
            if (row.value.removedAt !== null)
              return yield* new SandboxNotCreated({ name: intent.name, reason: deleted })
            const sandbox = yield* boot(scope, row.value, wanted.from).pipe(
              annotateIds({ account: scope.account, sandbox: intent.name })
            )
            if (Option.isNone(wanted.work)) return { sandbox, run: Option.none<RunId>() }
            const command = commandFor(wanted.work.value)
            const timeout = wanted.timeout ?? defaultTimeout
            const run = yield* runs
              .startCommand(scope, sandbox.name, { command, timeout, nonce: Option.some(nonce) })
              .pipe(Effect.tapCause(() => takeBack(scope, sandbox.name)))
            return { sandbox, run: Option.some(run.id) }
          },
          trackOutcome(metrics.creates, { kind: "sandbox" }, "outcome"),
          Effect.uninterruptible
        )

        const refresh = Effect.fnUntraced(function* (scope: AccountScope, rows: ReadonlyArray<AccountSandbox>) {
          const asked = rows.filter((row) => row.removedAt === null)
          if (asked.length === 0) return rows
          const seen = yield* provider.findMany(asked.map((row) => row.name)).pipe(
            Effect.asSome,
            Effect.catch((failure) =>
              Effect.as(Effect.logWarning("sandboxes are shown as last known", failure), Option.none())
            )
          )
          if (Option.isNone(seen)) return rows
          const byName = new Map(seen.value.map((sandbox) => [sandbox.name, sandbox]))
          const fresh = rows.map((row) => withObserved(row, byName.get(row.name)))
          const changed = fresh.filter((sandbox, index) => sandbox !== rows[index])
          if (changed.length > 0) yield* store.recordObserved(scope, changed)
          return fresh
        })

        const list = Effect.fn("AccountSandboxes.list")(function* (scope: AccountScope, page: Page) {
          const { next, rows } = yield* store.list(scope, page)
          return { rows: yield* refresh(scope, rows), next }
        })

        const find = Effect.fn("AccountSandboxes.find")(function* (scope: AccountScope, name: SandboxName) {
          const row = yield* store.get(scope, name)
          const [fresh] = yield* refresh(scope, Option.toArray(row))
          return Option.fromUndefinedOr(fresh)
        })

        const reconcile = Effect.gen(function* () {
          const before = DateTime.subtractDuration(yield* DateTime.now, leftBehindAfter)
          const rows = yield* store.listUnfinished(before, rowsAPass)
          if (rows.length === 0) return 0
          const seen = yield* provider.findMany(rows.map((row) => row.name))
          const byName = new Map(seen.map((sandbox) => [sandbox.name, sandbox]))
          for (const row of rows) {
            const sighting = byName.get(row.name) ?? failed(row.name, "The server stopped before it was made")
            yield* store.recordObserved(AccountScope.ofOwner(row), [sighting])
          }
          return rows.length
        }).pipe(Effect.withSpan("AccountSandboxes.reconcile"))

        const tidy = Effect.gen(function* () {
          const now = yield* DateTime.now
          const rows = yield* store.listExpired(DateTime.subtractDuration(now, options.keepStopped), rowsAPass)
          if (rows.length === 0) return 0
          const seen = yield* provider.findMany(rows.map((row) => row.name))
          const running = new Map(
            seen.flatMap((sandbox) => (sandbox.status === "running" ? [[sandbox.name, sandbox]] : []))
          )
          let removed = 0
          for (const row of rows) {
            const scope = AccountScope.ofOwner(row)
            const alive = running.get(row.name)
            if (alive !== undefined) {
              yield* store.recordObserved(scope, [alive])
              continue
            }
            const gone = store.recordRemoved(
              scope,
              [row.name],
              now,
              "Its files were removed some time after it stopped"
            )
            yield* Effect.andThen(provider.remove(row.name), gone).pipe(
              Effect.andThen(Effect.sync(() => void removed++)),
              // One that can't be removed does not keep the others.
              Effect.catch((failure) => Effect.logWarning("a stopped sandbox's files could not be removed", failure))
            )
          }
          return removed
        }).pipe(Effect.withSpan("AccountSandboxes.tidy"))

        return AccountSandboxes.of({ create, list, find, reconcile, tidy })
      })
    )
}

const snapshotGone = permanent("snapshot_gone", "The provider no longer has the snapshot")

const deleted = permanent("sandbox_deleted", "The sandbox was deleted while it was made")

const failed = (name: SandboxName, reason: string): ObservedState => ({
  name,
  status: "failed",
  expiresAt: null,
  reason
})

/** The row as the provider sees its sandbox now; the row itself where there is nothing new. */
const withObserved = (row: AccountSandbox, seen: Sandbox | undefined): AccountSandbox => {
  if (seen === undefined) {
    return row.status === "running" || row.status === "stopping"
      ? new AccountSandbox({ ...row, status: "stopped", reason: "The provider no longer has it" })
      : row
  }
  const same =
    seen.status === row.status &&
    seen.reason === row.reason &&
    seen.expiresAt.epochMilliseconds === row.expiresAt?.epochMilliseconds
  return same
    ? row
    : new AccountSandbox({ ...row, status: seen.status, expiresAt: seen.expiresAt, reason: seen.reason })
}
