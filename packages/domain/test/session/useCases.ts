/** The use cases and workers of sessions, over given ports. */
import { Checkouts } from "@castellan/domain/repo/Checkouts.ts"
import { BaseImages } from "@castellan/domain/sandbox/BaseImages.ts"
import { Sandboxes } from "@castellan/domain/sandbox/Sandboxes.ts"
import { type SessionTimes, defaultTimes } from "@castellan/domain/session/decide.ts"
import * as ImageBuilds from "@castellan/domain/session/ImageBuilds.ts"
import { Reconciler } from "@castellan/domain/session/Reconciler.ts"
import { Sessions } from "@castellan/domain/session/Sessions.ts"
import { SessionSandboxes } from "@castellan/domain/session/SessionSandboxes.ts"
import * as CommandRuns from "@castellan/domain/task/CommandRuns.ts"
import { TaskRuns } from "@castellan/domain/task/TaskRuns.ts"
import * as World from "@castellan/testkit/World.ts"
import { Layer } from "effect"

export const useCases = (times: SessionTimes = defaultTimes, liveAtMost = 1000) =>
  Layer.mergeAll(CommandRuns.layer({ concurrency: 10 }), ImageBuilds.worker({ concurrency: 2 })).pipe(
    Layer.provideMerge(Layer.mergeAll(Sessions.layer({ liveAtMost }), Reconciler.layer)),
    Layer.provideMerge(ImageBuilds.ImageBuilds.layer),
    Layer.provideMerge(SessionSandboxes.layer({ times, repoAccess: "owner" })),
    Layer.provideMerge(BaseImages.layer),
    Layer.provideMerge(Layer.mergeAll(TaskRuns.layer, Checkouts.layer)),
    Layer.provideMerge(Sandboxes.layer),
    Layer.provideMerge(World.crypto)
  )
