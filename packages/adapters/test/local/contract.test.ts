import { contract } from "@castellan/testkit/contracts/SandboxProvider/contract.ts"
import { inShell } from "@castellan/testkit/Program.ts"
import { local } from "./temporary.ts"

contract("local, namespaces", local({ outputKept: 256 * 1024 }), inShell)
contract("local, plain processes", local({ outputKept: 256 * 1024, isolation: "none" }), inShell)
