/** The use cases and workers of accounts, over given ports. */
import { AccountSandboxes } from "@castellan/domain/account/AccountSandboxes.ts"
import { Environments } from "@castellan/domain/account/Environments.ts"
import { SandboxOperations } from "../../src/account/SandboxOperations.ts"
import * as SetupRuns from "@castellan/domain/account/SetupRuns.ts"
import { Setups } from "@castellan/domain/account/Setups.ts"
import { Snapshots } from "@castellan/domain/account/Snapshots.ts"
import { Checkouts } from "@castellan/domain/repo/Checkouts.ts"
import { FileTrees } from "@castellan/domain/repo/FileTrees.ts"
import { Sandboxes } from "@castellan/domain/sandbox/Sandboxes.ts"
import * as CommandRuns from "@castellan/domain/task/CommandRuns.ts"
import { TaskRuns } from "@castellan/domain/task/TaskRuns.ts"
import * as World from "@castellan/testkit/World.ts"
import { Duration, Layer } from "effect"

const lifetime = Duration.minutes(30)

export const useCases = (more: { readonly liveAtMost?: number } = {}) =>
  Layer.mergeAll(CommandRuns.layer({ concurrency: 10 }), SetupRuns.layer({ concurrency: 2, lifetime })).pipe(
    Layer.provideMerge(Layer.mergeAll(SandboxOperations.layer({ lifetime }), Environments.layer, Setups.layer)),
    Layer.provideMerge(
      AccountSandboxes.layer({
        agent: ["echo", "prompted:"],
        lifetime,
        liveAtMost: more.liveAtMost ?? 100,
        keepStopped: Duration.days(7)
      })
    ),
    Layer.provideMerge(Layer.mergeAll(TaskRuns.layer, Snapshots.layer, Checkouts.layer)),
    Layer.provideMerge(Layer.mergeAll(Sandboxes.layer, FileTrees.layer)),
    Layer.provideMerge(World.crypto)
  )
