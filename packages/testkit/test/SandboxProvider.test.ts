import { contract } from "@castellan/testkit/contracts/SandboxProvider.ts"
import * as MemorySandbox from "@castellan/testkit/fakes/MemorySandbox.ts"
import { asSteps } from "@castellan/testkit/Program.ts"

contract("memory", MemorySandbox.layer, asSteps)
