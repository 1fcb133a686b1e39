import { contract } from "@castellan/testkit/contracts/RepoHost/contract.ts"
import { contractLimits } from "@castellan/testkit/contracts/RepoHost/contractLimits.ts"
import { author } from "../git/author.ts"
import { publish } from "../git/publish.ts"
import { emulated } from "./emulatedGitHub.ts"

// So low a limit that the largest of the contract's trees is beyond it.
contract("GitHub", emulated({ treeLimit: 1000, treeLimits: contractLimits }), author, publish)
