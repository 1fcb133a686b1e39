/** All commands of the command line. */
import * as Command from "effect/cli/Command"
import { accounts } from "./commands/accounts.ts"
import { adminKey } from "./commands/adminKey.ts"
import { apps } from "./commands/apps.ts"
import { doctor } from "./commands/doctor.ts"
import { emulate } from "./commands/emulate.ts"
import { events } from "./commands/events.ts"
import { health } from "./commands/health.ts"
import { keys } from "./commands/keys.ts"
import { orgs } from "./commands/orgs.ts"
import { repository } from "./commands/repository.ts"
import { runs } from "./commands/runs.ts"
import { sandboxFiles } from "./commands/sandboxFiles.ts"
import { wholeSandboxes } from "./commands/sandboxes.ts"
import { serve } from "./commands/serve.ts"
import { sessions } from "./commands/sessions.ts"
import { exitCodesHelp } from "./ExitCode.ts"
import { castellan } from "./Root.ts"

const sandboxes = Command.make("sandboxes").pipe(
  Command.withDescription("Create sandboxes, run commands in them, read and write their files"),
  Command.withExamples([{ command: "castellan sandboxes create -- node -v" }]),
  Command.withSubcommands([...wholeSandboxes, ...sandboxFiles, ...repository])
)

export const commands = castellan.pipe(
  Command.withDescription(
    `Manage sandboxes, sessions and web apps of a Castellan server

  Environment variables:
    CASTELLAN_URL      the server's URL, http://localhost:3000 by default
    CASTELLAN_API_KEY  your API key

  ${exitCodesHelp}`
  ),
  Command.withExamples([{ command: "castellan sandboxes create -- node -p '6 * 7'" }]),
  Command.withSubcommands([
    serve,
    adminKey,
    accounts,
    orgs,
    keys,
    sandboxes,
    sessions,
    apps,
    runs,
    events,
    health,
    doctor,
    emulate
  ])
)
