/** Ending a dev server that hangs: its keeper starts another. */
import { Schema } from "effect"
import { script } from "./Script.ts"

export const Restarted = Schema.Struct({
  /** Whether there was a keeper to ask. */
  asked: Schema.Boolean
})
export type Restarted = typeof Restarted.Type

export const restarting = script(`
main(async () => ({ asked: (await ask("restart")) !== undefined }))
`)
