import * as AccountStore from "@castellan/testkit/contracts/AccountStore/contract.ts"
import * as AppStore from "@castellan/testkit/contracts/AppStore/contract.ts"
import * as BaseImageStore from "@castellan/testkit/contracts/BaseImageStore/contract.ts"
import * as EnvironmentStore from "@castellan/testkit/contracts/EnvironmentStore/contract.ts"
import * as EventStore from "@castellan/testkit/contracts/EventStore/contract.ts"
import * as IdempotencyStore from "@castellan/testkit/contracts/IdempotencyStore/contract.ts"
import * as IdentityStore from "@castellan/testkit/contracts/IdentityStore/contract.ts"
import * as SessionStore from "@castellan/testkit/contracts/SessionStore/contract.ts"
import * as TaskRunnerContract from "@castellan/testkit/contracts/TaskRunner/contract.ts"
import * as TaskRunStoreContract from "@castellan/testkit/contracts/TaskRunStore/contract.ts"
import * as World from "@castellan/testkit/World.ts"

IdentityStore.contract("memory", World.layer)
IdempotencyStore.contract("memory", World.layer)
AccountStore.contract("memory", World.layer)
EnvironmentStore.contract("memory", World.layer)
SessionStore.contract("memory", World.layer)
AppStore.contract("memory", World.layer)
EventStore.contract("memory", World.layer)
BaseImageStore.contract("memory", World.layer)
TaskRunStoreContract.contract("memory", World.layer)
TaskRunnerContract.contract("memory", World.layer)
