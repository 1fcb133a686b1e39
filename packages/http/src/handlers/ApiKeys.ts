import { Access } from "@castellan/domain/identity/Access.ts"
import { ApiKeys } from "@castellan/domain/identity/ApiKeys.ts"
import { DateTime, Effect, Redacted } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { Api } from "../api/Api.ts"
import { RequestRefused } from "../api/Statuses.ts"

export const ApiKeysHandlers = HttpApiBuilder.group(
  Api,
  "keys",
  Effect.fn(function* (handlers) {
    const keys = yield* ApiKeys
    const { scopeOfOwn: scopeOf } = yield* Access

    return handlers.handleAll({
      issue: Effect.fnUntraced(function* ({ payload: { account_id, expiresAt = null, name } }) {
        if (expiresAt !== null && DateTime.isLessThanOrEqualTo(expiresAt, yield* DateTime.now)) {
          return yield* new RequestRefused({ say: "expiresAt must be in the future", fields: ["expiresAt"] })
        }
        const { key, secret } = yield* keys.issue(yield* scopeOf(account_id), { name, expiresAt })
        return { id: key.id, name: key.name, key: Redacted.value(secret), expiresAt: key.expiresAt }
      }),
      list: Effect.fnUntraced(function* ({ query }) {
        return { keys: yield* keys.list(yield* scopeOf(query.account_id)) }
      }),
      revoke: Effect.fnUntraced(function* ({ params, query }) {
        yield* keys.revoke(yield* scopeOf(query.account_id), params.id)
      })
    })
  })
)
