import { AccountSandboxes, type Work } from "@castellan/domain/account/AccountSandboxes.ts"
import { Access } from "@castellan/domain/identity/Access.ts"
import { Command } from "@castellan/domain/sandbox/Command.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { DateTime, Effect, Option, Schema } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { Api } from "../api/Api.ts"
import { type NewSandbox, respond } from "../api/AccountSandboxes.ts"
import { RequestNonce } from "../api/Idempotent.ts"
import { RequestRefused } from "../api/Statuses.ts"

const isSandboxName = Schema.is(SandboxName)

const workOf = ({ args, command, cwd, prompt }: typeof NewSandbox.Type) => {
  if (command && prompt) return new RequestRefused({ say: "Cannot specify both command and prompt" })
  if (prompt) return Effect.succeed(Option.some<Work>({ _tag: "Prompt", prompt }))
  if (!command) return Effect.succeed(Option.none<Work>())
  const vector = new Command({ command, args: args ?? [], cwd: cwd ?? null, env: {} })
  return Effect.succeed(Option.some<Work>({ _tag: "Command", command: vector }))
}

export const AccountSandboxesHandlers = HttpApiBuilder.group(
  Api,
  "sandboxes",
  Effect.fn(function* (handlers) {
    const sandboxes = yield* AccountSandboxes
    const { scopeOf } = yield* Access

    return handlers.handleAll({
      create: Effect.fnUntraced(function* ({ payload }) {
        const work = yield* workOf(payload)
        const scope = yield* scopeOf(payload.account_id)
        const { run, sandbox } = yield* sandboxes.create(scope, { work, nonce: yield* RequestNonce })
        return respond({ rows: [sandbox], next: null }, yield* DateTime.now, run)
      }),
      list: Effect.fnUntraced(function* ({ query: { account_id, cursor = null, limit = 100, sandbox_id } }) {
        const scope = yield* scopeOf(account_id)
        const list =
          sandbox_id === undefined
            ? yield* sandboxes.list(scope, { limit, cursor })
            : isSandboxName(sandbox_id)
              ? { rows: Option.toArray(yield* sandboxes.find(scope, sandbox_id)), next: null }
              : { rows: [], next: null }
        return respond(list, yield* DateTime.now)
      })
    })
  })
)
