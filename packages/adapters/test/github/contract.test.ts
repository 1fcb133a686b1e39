import { contract } from "@castellan/testkit/contracts/RepoHost/contract.ts"
import { contractLimits } from "@castellan/testkit/contracts/RepoHost/contractLimits.ts"
import { author } from "../git/author.ts"
import { publish } from "../git/publish.ts"
import { emulated } from "./emulatedGitHub.ts"

// The limit of one response is below the contract's largest trees, so that they take several requests.
contract("GitHub", emulated({ treeLimit: 100, treeLimits: contractLimits }), author, publish)
