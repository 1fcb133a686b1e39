import { ApiKeyId } from "@castellan/domain/identity/ApiKey.ts"
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { field, forAccount, forAccountInBody, GivenTime, optional, Text, Time } from "../Fields.ts"
import { Idempotent } from "../Idempotent.ts"
import { Statuses } from "../Statuses.ts"

const NewKey = Schema.Struct({
  name: field(
    Text.check(Schema.isMaxLength(200, { message: "must be at most 200 characters" })),
    "A name for people, 1 to 200 characters."
  ),
  expiresAt: optional(GivenTime, "When the key expires: a future instant as an ISO 8601 string. Default: never."),
  ...forAccountInBody
})

const keyFields = {
  id: field(ApiKeyId, "The id of the key."),
  name: field(Schema.String, "Its name.")
}

const expiresAt = field(Schema.NullOr(Time), "When the key expires, as an ISO 8601 string; null if it does not expire.")

const IssuedKey = Schema.Struct({
  ...keyFields,
  key: field(Schema.String, "The secret. It is shown only in this response."),
  expiresAt
})

const KnownKey = Schema.Struct({
  ...keyFields,
  createdAt: field(Time, "When the key was created, as an ISO 8601 string."),
  lastUsedAt: field(
    Schema.NullOr(Time),
    "When the key was last used, as an ISO 8601 string, to the minute; null if it was never used."
  ),
  expiresAt
})

/** The API keys of an account. */
export class ApiKeysApi extends HttpApiGroup.make("keys")
  .add(
    HttpApiEndpoint.post("issue", "/", {
      payload: NewKey,
      success: IssuedKey.pipe(HttpApiSchema.status(201)),
      error: [Statuses.AccountForbidden]
    })
      .middleware(Idempotent)
      .annotateMerge(
        OpenApi.annotations({
          summary: "Create an API key",
          description:
            "The response contains the key's secret, which can't be read again. An account creates its own keys; a platform admin creates keys for any account."
        })
      ),
    HttpApiEndpoint.get("list", "/", {
      query: forAccount,
      success: Schema.Struct({
        keys: field(Schema.Array(KnownKey), "The keys of the account that are not revoked.")
      }),
      error: [Statuses.AccountForbidden]
    }).annotateMerge(
      OpenApi.annotations({ summary: "List API keys", description: "Lists an account's keys without their secrets." })
    ),
    HttpApiEndpoint.delete("revoke", "/:id", {
      params: { id: field(ApiKeyId, "The id of the key.") },
      query: forAccount,
      success: HttpApiSchema.NoContent,
      error: [Statuses.AccountForbidden, Statuses.ApiKeyNotFound]
    }).annotateMerge(
      OpenApi.annotations({
        summary: "Revoke an API key",
        description: "The key is invalid at once. Open streams that it authenticated end."
      })
    )
  )
  .prefix("/api/keys")
  .annotate(OpenApi.Title, "API keys") {}
