import * as AccountStore from "@castellan/testkit/contracts/AccountStore.ts"
import * as AppStore from "@castellan/testkit/contracts/AppStore.ts"
import * as BaseImageStore from "@castellan/testkit/contracts/BaseImageStore.ts"
import * as EnvironmentStore from "@castellan/testkit/contracts/EnvironmentStore.ts"
import * as EventStore from "@castellan/testkit/contracts/EventStore.ts"
import * as IdempotencyStore from "@castellan/testkit/contracts/IdempotencyStore.ts"
import * as IdentityStore from "@castellan/testkit/contracts/IdentityStore.ts"
import * as SessionStore from "@castellan/testkit/contracts/SessionStore.ts"
import * as TaskRuns from "@castellan/testkit/contracts/TaskRuns.ts"
import * as World from "@castellan/testkit/World.ts"

IdentityStore.contract("memory", World.layer)
IdempotencyStore.contract("memory", World.layer)
AccountStore.contract("memory", World.layer)
EnvironmentStore.contract("memory", World.layer)
SessionStore.contract("memory", World.layer)
AppStore.contract("memory", World.layer)
EventStore.contract("memory", World.layer)
BaseImageStore.contract("memory", World.layer)
TaskRuns.contract("memory", World.layer)
