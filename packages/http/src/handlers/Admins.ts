import { AccountStore } from "@castellan/domain/account/AccountStore.ts"
import { PlatformAdmin } from "@castellan/domain/identity/PlatformAdmin.ts"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { Api } from "../api/Api.ts"

export const AdminsHandlers = HttpApiBuilder.group(
  Api,
  "admins",
  Effect.fn(function* (handlers) {
    const store = yield* AccountStore

    return handlers.handleAll({
      sandboxes: Effect.fnUntraced(function* ({ query: { cursor = null, limit = 100 } }) {
        const { next, rows } = yield* store.totals(yield* PlatformAdmin.proof, { limit, cursor })
        return {
          status: "success" as const,
          accounts: rows.map(({ account, email, lastCreatedAt, sandboxes }) => ({
            account_id: account,
            account_email: email,
            total_sandboxes: sandboxes,
            last_created_at: lastCreatedAt
          })),
          ...(next === null ? {} : { next_cursor: next })
        }
      })
    })
  })
)
