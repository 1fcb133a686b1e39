import { AccountId } from "@castellan/domain/identity/Account.ts"
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { absent, Text, Time } from "../Fields.ts"
import { Idempotent } from "../Idempotent.ts"

import { Statuses } from "../Statuses.ts"

const email = /^[^\s@]+@[^\s@]+$/

const NewAccount = Schema.Struct({
  name: absent(Text.check(Schema.isMaxLength(200, { message: "must be at most 200 characters" }))),
  email: absent(Schema.String.check(Schema.isPattern(email, { message: "must be an e-mail address" })))
})

/** Accounts, for the platform's admins. */
export class AccountsApi extends HttpApiGroup.make("accounts")
  .add(
    HttpApiEndpoint.post("create", "/", {
      payload: NewAccount,
      success: Schema.Struct({
        account: Schema.Struct({
          id: AccountId,
          name: Schema.NullOr(Schema.String),
          email: Schema.NullOr(Schema.String),
          createdAt: Time
        })
      }).pipe(HttpApiSchema.status(201)),
      error: [Statuses.NotPlatformAdmin]
    })
      .middleware(Idempotent)
      .annotate(OpenApi.Summary, "Make an account")
  )
  .prefix("/api/accounts")
  .annotate(OpenApi.Title, "Accounts") {}
