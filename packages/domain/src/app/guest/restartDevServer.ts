/** Ending a dev server that hangs: its keeper starts another. */
import { Schema } from "effect"
import { script } from "./Script.ts"

export const RestartResult = Schema.Struct({
  /** Whether there was a keeper to ask. */
  asked: Schema.Boolean
})
export type RestartResult = typeof RestartResult.Type

export const restartDevServer = script(`
main(async () => ({ asked: (await ask("restart")) !== undefined }))
`)
