/** The use cases of apps over given ports. */
import { AppTermination } from "../../src/app/AppTermination.ts"
import { AppPreviews } from "@castellan/domain/app/AppPreviews.ts"
import { AppFiles } from "../../src/app/AppFiles.ts"
import { AppSandboxes } from "@castellan/domain/app/AppSandboxes.ts"
import { AppProvisioning } from "../../src/app/AppProvisioning.ts"
import { type AppTimes, defaultTimes } from "@castellan/domain/app/AppTimes.ts"
import { GuestScripts } from "../../src/app/guest/GuestScripts.ts"
import { Scaffolds } from "../../src/app/project/Scaffolds.ts"
import { BaseImages } from "@castellan/domain/sandbox/BaseImages.ts"
import * as World from "@castellan/testkit/World.ts"
import { Layer } from "effect"

export const useCases = (times: AppTimes = defaultTimes) =>
  Layer.mergeAll(AppFiles.layer(times), AppPreviews.layer).pipe(
    Layer.provideMerge(AppSandboxes.layer(times)),
    Layer.provide(AppProvisioning.layer(times)),
    Layer.provide(AppTermination.layer(times)),
    Layer.provideMerge(Scaffolds.layer(times)),
    Layer.provide(GuestScripts.layer),
    Layer.provideMerge(BaseImages.layer),
    Layer.provideMerge(World.crypto)
  )
