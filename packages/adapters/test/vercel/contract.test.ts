import { contract } from "@castellan/testkit/contracts/SandboxProvider.ts"
import { asSteps, inShell } from "@castellan/testkit/Program.ts"
import { emulated, inMemory } from "./emulated.ts"

contract("Vercel over its emulator, with sandboxes of this machine", emulated(), inShell)
contract("Vercel over its emulator, with sandboxes in memory", inMemory(), asSteps)
