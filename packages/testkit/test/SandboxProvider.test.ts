import { contract } from "@castellan/testkit/contracts/SandboxProvider/contract.ts"
import * as MemorySandbox from "../src/fakes/sandbox/MemorySandbox.ts"
import { asSteps } from "@castellan/testkit/Program.ts"

contract("memory", MemorySandbox.layer, asSteps)
