import { contract } from "@castellan/testkit/contracts/SandboxProvider/contract.ts"
import { inShell } from "@castellan/testkit/Program.ts"
import { emulated } from "./emulatedVercel.ts"

contract("Vercel over its emulator, with sandboxes of this machine", emulated(), inShell)
