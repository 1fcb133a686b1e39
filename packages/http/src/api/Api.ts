import { HttpApi, OpenApi } from "effect/http-api"
import { AccountsApi } from "./Accounts.ts"
import { AccountSandboxesApi } from "./AccountSandboxes.ts"
import { ApiKeysApi } from "./ApiKeys.ts"
import { AdminsApi } from "./Admins.ts"
import { AppsApi } from "./Apps.ts"
import { complete } from "./document.ts"
import { HeldSandboxesApi } from "./HeldSandboxes.ts"
import { OrganizationsApi } from "./Organizations.ts"
import { EventsApi } from "./Events.ts"
import { SessionsApi } from "./Sessions.ts"
import { SessionSandboxApi } from "./SessionSandbox.ts"
import { SystemApi } from "./System.ts"
import { TaskRunsApi } from "./TaskRuns.ts"

/** Everything the server speaks. */
export class Api extends HttpApi.make("castellan")
  .add(SystemApi)
  .add(AccountsApi)
  .add(ApiKeysApi)
  .add(OrganizationsApi)
  .add(AdminsApi)
  .add(AccountSandboxesApi)
  .add(HeldSandboxesApi)
  .add(TaskRunsApi)
  .add(SessionsApi)
  .add(SessionSandboxApi)
  .add(AppsApi)
  .add(EventsApi)
  // All issues of a request are looked for, so that an answer can name every field that is missing.
  .annotate(HttpApi.ParseOptions, { errors: "all" })
  .annotateMerge(
    OpenApi.annotations({
      title: "Castellan",
      version: "0.1.0",
      description: "The control plane for sandboxes that run agents' work.",
      license: { name: "MIT" },
      transform: complete
    })
  ) {}
