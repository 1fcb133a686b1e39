import { HttpApi, OpenApi } from "effect/http-api"
import { AccountsApi } from "./groups/Accounts.ts"
import { AccountSandboxesApi } from "./groups/AccountSandboxes.ts"
import { ApiKeysApi } from "./groups/ApiKeys.ts"
import { AdminsApi } from "./groups/Admins.ts"
import { AppsApi } from "./groups/Apps.ts"
import { complete } from "./document.ts"
import { SandboxOperationsApi } from "./groups/SandboxOperations.ts"
import { OrganizationsApi } from "./groups/Organizations.ts"
import { EventsApi } from "./groups/Events.ts"
import { SessionsApi } from "./groups/Sessions.ts"
import { SessionSandboxApi } from "./groups/SessionSandbox.ts"
import { SystemApi } from "./groups/System.ts"
import { TaskRunsApi } from "./groups/TaskRuns.ts"

/** Everything the server speaks. */
export class Api extends HttpApi.make("castellan")
  .add(SystemApi)
  .add(AccountsApi)
  .add(ApiKeysApi)
  .add(OrganizationsApi)
  .add(AdminsApi)
  .add(AccountSandboxesApi)
  .add(SandboxOperationsApi)
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
