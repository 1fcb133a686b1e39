import { AccountId } from "@castellan/domain/identity/Account.ts"
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { field, optional, Text, Time } from "../Fields.ts"
import { Idempotent } from "../Idempotent.ts"
import { Statuses } from "../Statuses.ts"

const email = /^[^\s@]+@[^\s@]+$/

const NewAccount = Schema.Struct({
  name: optional(
    Text.check(Schema.isMaxLength(200, { message: "must be at most 200 characters" })),
    "A name for people, 1 to 200 characters. Default: none."
  ),
  email: optional(
    Schema.String.check(Schema.isPattern(email, { message: "must be an e-mail address" })),
    "An e-mail address. Default: none."
  )
})

const AccountBody = Schema.Struct({
  id: field(AccountId, "The id of the account."),
  name: field(Schema.NullOr(Schema.String), "The name; null if none was given."),
  email: field(Schema.NullOr(Schema.String), "The e-mail address; null if none was given."),
  createdAt: field(Time, "When the account was created, as an ISO 8601 string.")
})

/** Accounts, which platform admins create. */
export class AccountsApi extends HttpApiGroup.make("accounts")
  .add(
    HttpApiEndpoint.post("create", "/", {
      payload: NewAccount,
      success: Schema.Struct({ account: field(AccountBody, "The new account.") }).pipe(HttpApiSchema.status(201)),
      error: [Statuses.NotPlatformAdmin]
    })
      .middleware(Idempotent)
      .annotateMerge(
        OpenApi.annotations({
          summary: "Create an account",
          description:
            "Only platform admins may create accounts. Create an API key for the new account with `keys.issue`."
        })
      )
  )
  .prefix("/api/accounts")
  .annotate(OpenApi.Title, "Accounts") {}
