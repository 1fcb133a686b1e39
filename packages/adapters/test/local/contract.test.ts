import { contract } from "@castellan/testkit/contracts/SandboxProvider/contract.ts"
import { inShell } from "@castellan/testkit/Program.ts"
import { localProvider } from "./temporary.ts"

contract("local, namespaces", localProvider({ outputKept: 256 * 1024 }), inShell)
contract("local, plain processes", localProvider({ outputKept: 256 * 1024, isolation: "none" }), inShell)
