import { Accounts } from "@castellan/domain/identity/Accounts.ts"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { Api } from "../api/Api.ts"

export const AccountsHandlers = HttpApiBuilder.group(
  Api,
  "accounts",
  Effect.fn(function* (handlers) {
    const accounts = yield* Accounts
    return handlers.handleAll({
      create: ({ payload: { email = null, name = null } }) =>
        Effect.map(accounts.create({ email, name }), (account) => ({ account }))
    })
  })
)
