import { contract } from "@castellan/testkit/contracts/RepoHost.ts"
import { author } from "../git/author.ts"
import { local } from "./temporary.ts"

contract("local", local, author)
