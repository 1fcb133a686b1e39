/** The root command, with the flags that all commands have. */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"

export const castellan = Command.make("castellan").pipe(
  Command.withSharedFlags({
    url: Flag.String("url").pipe(
      Flag.withMetavar("URL"),
      Flag.withDescription("The server's URL; overrides CASTELLAN_URL"),
      Flag.optional
    ),
    json: Flag.Boolean("json").pipe(
      Flag.withDescription("Print the API's JSON response unchanged, and don't follow runs"),
      Flag.withDefault(false)
    )
  })
)
