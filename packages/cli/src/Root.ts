/** The command line's first word, with the flags that every command takes. */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"

export const castellan = Command.make("castellan").pipe(
  Command.withSharedFlags({
    url: Flag.String("url").pipe(
      Flag.withMetavar("URL"),
      Flag.withDescription("The server's address, in place of CASTELLAN_URL"),
      Flag.optional
    ),
    json: Flag.Boolean("json").pipe(
      Flag.withDescription("Print the API's answer as it is, and follow nothing"),
      Flag.withDefault(false)
    )
  })
)
