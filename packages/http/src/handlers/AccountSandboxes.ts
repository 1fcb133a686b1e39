import { AccountSandboxes, type Work } from "@castellan/domain/account/AccountSandboxes.ts"
import { Environments } from "@castellan/domain/account/Environments.ts"
import { Setups } from "@castellan/domain/account/Setups.ts"
import { Access } from "@castellan/domain/identity/Access.ts"
import { Command } from "@castellan/domain/sandbox/Command.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { DateTime, Duration, Effect, Option, Schema } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { Api } from "../api/Api.ts"
import {
  type NewSandbox,
  presentEnvironment,
  presentSandbox,
  respond,
  shortTree
} from "../api/groups/AccountSandboxes.ts"
import { RequestNonce } from "../api/Idempotent.ts"
import { RequestRefused } from "../api/Statuses.ts"
import { contentOf } from "../streams/FileContent.ts"
import * as FileTreeJson from "../streams/FileTreeJson.ts"
import { Limits } from "../middleware/Limits.ts"

const isSandboxName = Schema.is(SandboxName)

const workOf = Effect.fnUntraced(function* ({ args, command, cwd, env, prompt, timeoutMs }: typeof NewSandbox.Type) {
  if (command && prompt) {
    return yield* new RequestRefused({ say: "Cannot specify both command and prompt", fields: ["prompt"] })
  }
  if (prompt) return Option.some<Work>({ _tag: "Prompt", prompt, cwd: cwd ?? null, env: env ?? {} })
  if (command) {
    const vector = new Command({ command, args: args ?? [], cwd: cwd ?? null, env: env ?? {} })
    return Option.some<Work>({ _tag: "Command", command: vector })
  }
  for (const [field, value] of Object.entries({ env, timeoutMs })) {
    if (value === null || value === undefined) continue
    return yield* new RequestRefused({ say: `${field} must come with a command or a prompt`, fields: [field] })
  }
  return Option.none<Work>()
})

export const AccountSandboxesHandlers = HttpApiBuilder.group(
  Api,
  "sandboxes",
  Effect.fn(function* (handlers) {
    const sandboxes = yield* AccountSandboxes
    const environments = yield* Environments
    const setups = yield* Setups
    const limits = yield* Limits
    const { scopeOf } = yield* Access

    return handlers.handleAll({
      create: Effect.fnUntraced(function* ({ payload }) {
        const work = yield* workOf(payload)
        const scope = yield* scopeOf(payload.account_id)
        const { snapshotId, timeoutMs } = payload
        const wanted = {
          work,
          nonce: yield* RequestNonce,
          ...(snapshotId ? { from: yield* environments.bootable(scope, snapshotId) } : {}),
          ...(timeoutMs ? { timeout: Duration.millis(timeoutMs) } : {})
        }
        yield* limits.create(scope)
        const [{ run, sandbox }, view] = yield* Effect.all(
          [sandboxes.create(scope, wanted), environments.view(scope)],
          { concurrency: 2 }
        )
        return respond([presentSandbox(sandbox, yield* DateTime.now, run)], shortTree(view), null)
      }),
      list: Effect.fnUntraced(function* ({ query: { account_id, cursor = null, limit = 100, sandbox_id } }) {
        const scope = yield* scopeOf(account_id)
        const found =
          sandbox_id === undefined
            ? sandboxes.list(scope, { limit, cursor })
            : isSandboxName(sandbox_id)
              ? Effect.map(sandboxes.find(scope, sandbox_id), (found) => ({ rows: Option.toArray(found), next: null }))
              : Effect.succeed({ rows: [], next: null })
        const [list, view] = yield* Effect.all([found, environments.view(scope)], { concurrency: 2 })
        const now = yield* DateTime.now
        const rows = list.rows.map((sandbox) => presentSandbox(sandbox, now))
        return Option.isSome(view.tree) && FileTreeJson.isLarge(view.tree.value)
          ? yield* FileTreeJson.respond(
              respond(rows, { ...view, tree: Option.map(view.tree, (tree) => ({ ...tree, entries: [] })) }, list.next),
              view.tree.value
            )
          : respond(rows, view, list.next)
      }),
      change: Effect.fnUntraced(function* ({ payload: { account_id, github_repo = null, snapshotId = null } }) {
        const scope = yield* scopeOf(account_id)
        return presentEnvironment(yield* environments.change(scope, { snapshot: snapshotId, repo: github_repo }))
      }),
      clear: Effect.fnUntraced(function* ({ payload, query }) {
        const named = payload.account_id ?? query.account_id
        if (query.account_id !== undefined && named?.toLowerCase() !== query.account_id.toLowerCase()) {
          return yield* new RequestRefused({
            say: "account_id must be the same in the query and in the body",
            fields: ["account_id"]
          })
        }
        const cleared = yield* environments.clear(yield* scopeOf(named))
        return { status: "success" as const, deleted_snapshot: presentEnvironment(cleared) }
      }),
      setup: Effect.fnUntraced(function* ({ payload }) {
        const scope = yield* scopeOf(payload.account_id)
        yield* limits.create(scope)
        const { id } = yield* setups.start(scope, yield* RequestNonce)
        return { status: "success" as const, runId: id }
      }),
      file: Effect.fnUntraced(function* ({ query: { account_id, path } }) {
        const bytes = yield* environments.readFile(yield* scopeOf(account_id), path)
        return { status: "success" as const, ...contentOf(bytes) }
      })
    })
  })
)
