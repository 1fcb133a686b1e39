import { contract } from "@castellan/testkit/contracts/SandboxProvider/contract.ts"
import { asSteps } from "@castellan/testkit/Program.ts"
import { inMemory } from "./emulatedVercel.ts"

contract("Vercel over its emulator, with sandboxes in memory", inMemory(), asSteps)
