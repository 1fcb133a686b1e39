/** `castellan serve`: only its help. The launcher starts the server before this code is loaded. */
import * as Command from "effect/cli/Command"
import { UsageRefused } from "../client/Failure.ts"

export const serve = Command.make(
  "serve",
  {},
  () => new UsageRefused({ say: "serve takes no flags or arguments: configure it by environment variables" })
).pipe(
  Command.withDescription(
    "Start a server. It is configured by environment variables, such as PORT and CASTELLAN_DATA_DIR"
  ),
  Command.withExamples([{ command: "PORT=3000 castellan serve" }])
)
