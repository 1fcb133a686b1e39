import * as Command from "effect/cli/Command"
import { UsageRefused } from "../client/Failure.ts"

/** Only for its help: the launcher starts the server itself, before any of this is loaded. */
export const serve = Command.make(
  "serve",
  {},
  () => new UsageRefused({ say: "serve stands alone, without flags" })
).pipe(
  Command.withDescription("Start a server, set by its own environment (PORT, CASTELLAN_DATA_DIR, …)"),
  Command.withExamples([{ command: "PORT=3000 castellan serve" }])
)
