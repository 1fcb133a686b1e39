import { AccountId } from "@castellan/domain/identity/Account.ts"
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { cursorOf, pageOf, Time } from "../Fields.ts"

import { Statuses } from "../Statuses.ts"

const Total = Schema.Struct({
  account_id: AccountId,
  account_email: Schema.NullOr(Schema.String),
  /** All it ever had. */
  total_sandboxes: Schema.Int,
  last_created_at: Time
})

/** What platform admins see of everybody. */
export class AdminsApi extends HttpApiGroup.make("admins")
  .add(
    HttpApiEndpoint.get("sandboxes", "/sandboxes", {
      query: pageOf("accounts"),
      success: Schema.Struct({
        status: Schema.Literal("success"),
        accounts: Schema.Array(Total),
        /** Where the list goes on; left out on its last page. */
        next_cursor: Schema.optionalKey(cursorOf("accounts"))
      }),
      error: [Statuses.NotPlatformAdmin]
    }).annotate(OpenApi.Summary, "How many sandboxes accounts have had, the newest sandbox first")
  )
  .prefix("/api/admins")
  .annotate(OpenApi.Title, "Platform admins") {}
