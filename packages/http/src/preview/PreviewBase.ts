import { Context } from "effect"

/** Below which address apps are shown; undefined for the one their requests come to. */
export const PreviewBase = Context.Reference<URL | undefined>("http/PreviewBase", { defaultValue: () => undefined })
