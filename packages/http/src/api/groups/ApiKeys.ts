import { ApiKeyId } from "@castellan/domain/identity/ApiKey.ts"
import { AccountId } from "@castellan/domain/identity/Account.ts"
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { absent, forAccount, GivenTime, Text, Time } from "../Fields.ts"
import { Idempotent } from "../Idempotent.ts"

import { Statuses } from "../Statuses.ts"

const NewKey = Schema.Struct({
  name: Text.check(Schema.isMaxLength(200, { message: "must be at most 200 characters" })),
  expiresAt: absent(GivenTime),
  account_id: absent(AccountId)
})

const IssuedKey = Schema.Struct({
  id: ApiKeyId,
  name: Schema.String,
  /** Shown this once. */
  key: Schema.String,
  expiresAt: Schema.NullOr(Time)
})

const KnownKey = Schema.Struct({
  id: ApiKeyId,
  name: Schema.String,
  createdAt: Time,
  lastUsedAt: Schema.NullOr(Time),
  expiresAt: Schema.NullOr(Time)
})

/** The keys of an account. */
export class ApiKeysApi extends HttpApiGroup.make("keys")
  .add(
    HttpApiEndpoint.post("issue", "/", {
      payload: NewKey,
      success: IssuedKey.pipe(HttpApiSchema.status(201)),
      error: [Statuses.AccountForbidden]
    })
      .middleware(Idempotent)
      .annotate(OpenApi.Summary, "Make an API key, shown this once"),
    HttpApiEndpoint.get("list", "/", {
      query: forAccount,
      success: Schema.Struct({ keys: Schema.Array(KnownKey) }),
      error: [Statuses.AccountForbidden]
    }).annotate(OpenApi.Summary, "List API keys"),
    HttpApiEndpoint.delete("revoke", "/:id", {
      params: { id: ApiKeyId },
      query: forAccount,
      success: HttpApiSchema.NoContent,
      error: [Statuses.AccountForbidden, Statuses.ApiKeyNotFound]
    }).annotate(OpenApi.Summary, "End an API key")
  )
  .prefix("/api/keys")
  .annotate(OpenApi.Title, "API keys") {}
