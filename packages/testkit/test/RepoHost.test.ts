import { contract } from "@castellan/testkit/contracts/RepoHost/contract.ts"
import { contractLimits } from "@castellan/testkit/contracts/RepoHost/contractLimits.ts"
import { author } from "../src/fakes/repo/MemoryAuthor.ts"
import * as MemoryRepoHost from "../src/fakes/repo/MemoryRepoHost.ts"
import { Effect } from "effect"

contract("memory", MemoryRepoHost.layerWith({ treeLimits: contractLimits }), author, (repo, bundle) =>
  Effect.flatMap(MemoryRepoHost.MemoryRepos, (repos) => repos.publish(repo, bundle))
)
