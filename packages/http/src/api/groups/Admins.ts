import { AccountId } from "@castellan/domain/identity/Account.ts"
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { field, nextPageOf, pageOf, success, Time } from "../Fields.ts"
import { Statuses } from "../Statuses.ts"

const AccountTotal = Schema.Struct({
  account_id: field(AccountId, "The id of the account."),
  account_email: field(Schema.NullOr(Schema.String), "Its e-mail address; null if it has none."),
  total_sandboxes: field(Schema.Int, "How many sandboxes the account has created, including deleted ones."),
  last_created_at: field(Time, "When its newest sandbox was created, as an ISO 8601 string.")
})

/** Reports across all accounts, for platform admins. */
export class AdminsApi extends HttpApiGroup.make("admins")
  .add(
    HttpApiEndpoint.get("sandboxes", "/sandboxes", {
      query: pageOf("accounts", 100),
      success: Schema.Struct({
        ...success,
        accounts: field(Schema.Array(AccountTotal), "Accounts with sandboxes, by their newest sandbox, newest first."),
        ...nextPageOf("accounts")
      }),
      error: [Statuses.NotPlatformAdmin]
    }).annotateMerge(
      OpenApi.annotations({
        summary: "Count sandboxes by account",
        description: "Lists the accounts that have created sandboxes, with their totals. Only for platform admins."
      })
    )
  )
  .prefix("/api/admins")
  .annotate(OpenApi.Title, "Platform admins") {}
