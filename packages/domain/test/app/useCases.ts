/** The apps' use cases over whatever ports are given, for tests. */
import { AppEnds } from "@castellan/domain/app/AppEnds.ts"
import { AppPreviews } from "@castellan/domain/app/AppPreviews.ts"
import { AppProjects } from "@castellan/domain/app/AppProjects.ts"
import { AppSandboxes } from "@castellan/domain/app/AppSandboxes.ts"
import { AppStarts } from "@castellan/domain/app/AppStarts.ts"
import { type AppTimes, usualTimes } from "@castellan/domain/app/AppTimes.ts"
import { Inside } from "../../src/app/guest/GuestScripts.ts"
import { Scaffolds } from "../../src/app/project/Scaffolds.ts"
import { BaseImages } from "@castellan/domain/sandbox/BaseImages.ts"
import * as World from "@castellan/testkit/World.ts"
import { Layer } from "effect"

export const useCases = (times: AppTimes = usualTimes) =>
  Layer.mergeAll(AppProjects.layer(times), AppPreviews.layer).pipe(
    Layer.provideMerge(AppSandboxes.layer(times)),
    Layer.provide(AppStarts.layer(times)),
    Layer.provide(AppEnds.layer(times)),
    Layer.provideMerge(Scaffolds.layer(times)),
    Layer.provide(Inside.layer),
    Layer.provideMerge(BaseImages.layer),
    Layer.provideMerge(World.crypto)
  )
