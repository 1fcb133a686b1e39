import { Accounts } from "@castellan/domain/identity/Accounts.ts"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { Api } from "../api/Api.ts"
import { RequestNonce } from "../api/Idempotent.ts"

export const AccountsHandlers = HttpApiBuilder.group(
  Api,
  "accounts",
  Effect.fn(function* (handlers) {
    const accounts = yield* Accounts
    return handlers.handleAll({
      create: Effect.fnUntraced(function* ({ payload: { email = null, name = null } }) {
        return { account: yield* accounts.create({ email, name, nonce: yield* RequestNonce }) }
      })
    })
  })
)
