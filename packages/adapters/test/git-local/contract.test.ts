import { contract } from "@castellan/testkit/contracts/RepoHost/contract.ts"
import { author } from "../git/author.ts"
import { publish } from "../git/publish.ts"
import { besideOthers } from "./temporaryRepos.ts"

contract("local", besideOthers, author, publish)
