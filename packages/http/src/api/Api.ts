/** The declaration of the HTTP API. Routes, limits, openapi.json and the command line's client are derived from it. */
import { HttpApi, OpenApi } from "effect/http-api"
import { Authenticated } from "./Authenticated.ts"
import { complete } from "./document.ts"
import { AccountsApi } from "./groups/Accounts.ts"
import { AccountSandboxesApi } from "./groups/AccountSandboxes.ts"
import { AdminsApi } from "./groups/Admins.ts"
import { ApiKeysApi } from "./groups/ApiKeys.ts"
import { AppsApi } from "./groups/Apps.ts"
import { EventsApi } from "./groups/Events.ts"
import { SandboxOperationsApi } from "./groups/SandboxOperations.ts"
import { OrganizationsApi } from "./groups/Organizations.ts"
import { SessionsApi } from "./groups/Sessions.ts"
import { SessionSandboxApi } from "./groups/SessionSandbox.ts"
import { SystemApi } from "./groups/System.ts"
import { TaskRunsApi } from "./groups/TaskRuns.ts"
import { KnownFields } from "./KnownFields.ts"
import { type Operation, operationsOf } from "./Operations.ts"
import { RateLimits } from "./RateLimits.ts"

export class Api extends HttpApi.make("castellan")
  .add(AccountsApi, ApiKeysApi, OrganizationsApi, AdminsApi)
  .add(AccountSandboxesApi, SandboxOperationsApi, TaskRunsApi)
  .add(SessionsApi, SessionSandboxApi, AppsApi, EventsApi)
  // The last is the outermost: credentials are checked before the rate limit, and both before the request.
  .middleware(KnownFields)
  .middleware(RateLimits)
  .middleware(Authenticated)
  // Public, since it is added after the authentication.
  .add(SystemApi.middleware(KnownFields))
  // A 400 names every missing field, so decoding does not stop at the first issue.
  .annotate(HttpApi.ParseOptions, { errors: "all" })
  .annotateMerge(
    OpenApi.annotations({
      title: "Castellan",
      version: "0.1.0",
      description:
        "The control plane for sandboxes that run agents' work. All bodies are JSON unless an operation says otherwise; times are ISO 8601 strings or epoch milliseconds, as each field says. In a request, `null` counts as absent for an optional field.",
      license: { name: "MIT" },
      transform: (generated) => complete(generated, operations)
    })
  ) {}

/** Every operation of the API. */
export const operations: ReadonlyArray<Operation> = operationsOf(Api)
