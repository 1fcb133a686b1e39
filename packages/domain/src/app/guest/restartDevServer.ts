/** The script that has the supervisor replace a dev server that hangs. */
import { Schema } from "effect"
import { script } from "./Script.ts"

export const RestartResult = Schema.Struct({
  /** Whether a supervisor answered. */
  asked: Schema.Boolean
})
export type RestartResult = typeof RestartResult.Type

export const restartDevServer = script(`
main(async () => ({ asked: (await ask("restart")) !== undefined }))
`)
