import { SandboxOperations, SandboxNotFound } from "@castellan/domain/account/SandboxOperations.ts"
import { Access } from "@castellan/domain/identity/Access.ts"
import type { CurrentCredential } from "@castellan/domain/identity/Credential.ts"
import type { CurrentActor } from "@castellan/domain/identity/CurrentActor.ts"
import { listingLimits, SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { TaskRuns } from "@castellan/domain/task/TaskRuns.ts"
import type { AccountId } from "@castellan/domain/identity/Account.ts"
import { DateTime, Duration, Effect, Option, Schema, Stream } from "effect"
import { HttpApiBuilder, HttpApiError } from "effect/http-api"
import { presentSandbox } from "../api/groups/AccountSandboxes.ts"
import { Api } from "../api/Api.ts"
import { fileLimit } from "../api/groups/SandboxOperations.ts"
import { RequestNonce } from "../api/Idempotent.ts"
import { commandIn } from "../api/NewCommand.ts"
import { BodyTooLarge } from "../api/Statuses.ts"
import { present } from "../api/groups/TaskRuns.ts"
import * as FileStream from "../streams/FileStream.ts"
import { Limits } from "../middleware/Limits.ts"
import { awaitRun } from "../streams/awaitRun.ts"

const isSandboxName = Schema.is(SandboxName)

const status = "success" as const

/** How long the files of a snapshot are kept that nobody says more about. */
const keptByDefault = Duration.days(7)

const home = SandboxPath.make(".")

interface Asked {
  readonly params: { readonly sandboxId: string }
  readonly query: { readonly account_id?: AccountId }
}

export const SandboxOperationsHandlers = HttpApiBuilder.group(
  Api,
  "sandbox",
  Effect.fn(function* (handlers) {
    const operations = yield* SandboxOperations
    const runs = yield* TaskRuns
    const limits = yield* Limits
    const { scopeOf, untilLost } = yield* Access
    const { snapshotStops } = (yield* SandboxProvider).supports

    /** Whose sandbox is meant, and which. What is no name of a sandbox names none. */
    const meant = Effect.fnUntraced(function* ({ params: { sandboxId }, query: { account_id } }: Asked) {
      const scope = yield* scopeOf(account_id)
      if (!isSandboxName(sandboxId)) return yield* new SandboxNotFound({ name: sandboxId })
      return { scope, name: sandboxId }
    })

    return handlers.handleAll({
      get: Effect.fnUntraced(function* (asked) {
        const { name, scope } = yield* meant(asked)
        return { status, sandbox: presentSandbox(yield* operations.get(scope, name), yield* DateTime.now) }
      }),
      run: Effect.fnUntraced(function* (asked) {
        const { name, scope } = yield* meant(asked)
        const wanted = commandIn(asked.payload)
        if (asked.payload.wait === true) yield* limits.stream
        const run = yield* operations.run(scope, name, { ...wanted, nonce: yield* RequestNonce })
        if (asked.payload.wait !== true) return { status, runId: run.id }
        const wait = { timeout: wanted.timeout, atMost: limits.wait, lost: untilLost(scope) }
        const ended = yield* awaitRun(runs, scope, run.id, wait)
        if (Option.isNone(ended)) return { status, runId: run.id }
        return { status, run: present(ended.value, yield* DateTime.now) }
      }),
      files: Effect.fnUntraced(function* (asked) {
        const { name, scope } = yield* meant(asked)
        const { cursor: after, limit = listingLimits.entries, path = home, recursive = "false" } = asked.query
        const { depth = recursive === "true" || recursive === "1" ? listingLimits.depth : 1 } = asked.query
        const { files, next } = yield* operations.listFiles(scope, name, path, { after, depth, limit })
        return { status, files, ...(next === null ? {} : { next_cursor: next }) }
      }),
      readFile: Effect.fnUntraced(function* (asked) {
        const { name, scope } = yield* meant(asked)
        yield* limits.stream
        const lost = Effect.provide(untilLost(scope), yield* Effect.context<CurrentActor | CurrentCredential>())
        return yield* FileStream.begun(Stream.interruptWhen(operations.readFile(scope, name, asked.query.path), lost))
      }),
      writeFile: Effect.fnUntraced(function* (asked) {
        const { name, scope } = yield* meant(asked)
        const { mode, path } = asked.query
        yield* limits.stream
        const size = yield* operations.writeFile(scope, name, path, asked.payload, { mode }).pipe(
          Effect.catchIf(HttpApiError.HttpApiPayloadTooLarge.is, () => new BodyTooLarge({ limit: fileLimit })),
          Effect.raceFirst(untilLost(scope))
        )
        return { status, path, size }
      }),
      snapshot: Effect.fnUntraced(function* (asked) {
        const { name, scope } = yield* meant(asked)
        yield* limits.create(scope)
        const { expiresInMs } = asked.payload
        const keptFor = expiresInMs ? Duration.millis(expiresInMs) : keptByDefault
        const { expiresAt, id } = yield* operations.snapshot(scope, name, { keptFor, nonce: yield* RequestNonce })
        return { status, snapshotId: id, expiresAt, stopped: snapshotStops }
      }),
      fork: Effect.fnUntraced(function* (asked) {
        const { name, scope } = yield* meant(asked)
        yield* limits.create(scope)
        const sandbox = yield* operations.fork(scope, name, yield* RequestNonce)
        return { status, sandbox: presentSandbox(sandbox, yield* DateTime.now) }
      }),
      extend: Effect.fnUntraced(function* (asked) {
        const { name, scope } = yield* meant(asked)
        const sandbox = yield* operations.extend(scope, name, Duration.millis(asked.payload.ms))
        return { status, sandbox: presentSandbox(sandbox, yield* DateTime.now) }
      }),
      remove: Effect.fnUntraced(function* (asked) {
        const { name, scope } = yield* meant(asked)
        yield* operations.remove(scope, name)
        return { status }
      })
    })
  })
)
