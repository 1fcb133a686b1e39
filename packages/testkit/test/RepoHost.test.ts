import { contract } from "@castellan/testkit/contracts/RepoHost.ts"
import { author } from "@castellan/testkit/fakes/MemoryAuthor.ts"
import * as MemoryRepoHost from "@castellan/testkit/fakes/MemoryRepoHost.ts"

contract("memory", MemoryRepoHost.layer, author)
