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

/** How long a snapshot is kept by default. */
const defaultRetention = Duration.days(7)

const home = SandboxPath.make(".")

interface SandboxRequest {
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

    /** The scope and name of the requested sandbox. A malformed id names none. */
    const requested = Effect.fnUntraced(function* ({ params: { sandboxId }, query: { account_id } }: SandboxRequest) {
      const scope = yield* scopeOf(account_id)
      if (!isSandboxName(sandboxId)) return yield* new SandboxNotFound({ name: sandboxId })
      return { scope, name: sandboxId }
    })

    return handlers.handleAll({
      get: Effect.fnUntraced(function* (request) {
        const { name, scope } = yield* requested(request)
        return { status, sandbox: presentSandbox(yield* operations.get(scope, name), yield* DateTime.now) }
      }),
      run: Effect.fnUntraced(function* (request) {
        const { name, scope } = yield* requested(request)
        const wanted = commandIn(request.payload)
        if (request.payload.wait === true) yield* limits.stream
        const run = yield* operations.run(scope, name, { ...wanted, nonce: yield* RequestNonce })
        if (request.payload.wait !== true) return { status, runId: run.id }
        const wait = { timeout: wanted.timeout, maxWait: limits.wait, lost: untilLost(scope) }
        const ended = yield* awaitRun(runs, scope, run.id, wait)
        if (Option.isNone(ended)) return { status, runId: run.id }
        return { status, run: present(ended.value, yield* DateTime.now) }
      }),
      files: Effect.fnUntraced(function* (request) {
        const { name, scope } = yield* requested(request)
        const { cursor: after, limit = listingLimits.entries, path = home, recursive = "false" } = request.query
        const { depth = recursive === "true" || recursive === "1" ? listingLimits.depth : 1 } = request.query
        const { files, next } = yield* operations.listFiles(scope, name, path, { after, depth, limit })
        return { status, files, ...(next === null ? {} : { next_cursor: next }) }
      }),
      readFile: Effect.fnUntraced(function* (request) {
        const { name, scope } = yield* requested(request)
        yield* limits.stream
        const lost = Effect.provide(untilLost(scope), yield* Effect.context<CurrentActor | CurrentCredential>())
        return yield* FileStream.startStream(
          Stream.interruptWhen(operations.readFile(scope, name, request.query.path), lost)
        )
      }),
      writeFile: Effect.fnUntraced(function* (request) {
        const { name, scope } = yield* requested(request)
        const { mode, path } = request.query
        yield* limits.stream
        const size = yield* operations.writeFile(scope, name, path, request.payload, { mode }).pipe(
          Effect.catchIf(HttpApiError.HttpApiPayloadTooLarge.is, () => new BodyTooLarge({ limit: fileLimit })),
          Effect.raceFirst(untilLost(scope))
        )
        return { status, path, size }
      }),
      snapshot: Effect.fnUntraced(function* (request) {
        const { name, scope } = yield* requested(request)
        yield* limits.create(scope)
        const { expiresInMs } = request.payload
        const keptFor = expiresInMs ? Duration.millis(expiresInMs) : defaultRetention
        const { expiresAt, id } = yield* operations.snapshot(scope, name, { keptFor, nonce: yield* RequestNonce })
        return { status, snapshotId: id, expiresAt, stopped: snapshotStops }
      }),
      fork: Effect.fnUntraced(function* (request) {
        const { name, scope } = yield* requested(request)
        yield* limits.create(scope)
        const sandbox = yield* operations.fork(scope, name, yield* RequestNonce)
        return { status, sandbox: presentSandbox(sandbox, yield* DateTime.now) }
      }),
      extend: Effect.fnUntraced(function* (request) {
        const { name, scope } = yield* requested(request)
        const sandbox = yield* operations.extend(scope, name, Duration.millis(request.payload.ms))
        return { status, sandbox: presentSandbox(sandbox, yield* DateTime.now) }
      }),
      remove: Effect.fnUntraced(function* (request) {
        const { name, scope } = yield* requested(request)
        yield* operations.remove(scope, name)
        return { status }
      })
    })
  })
)
