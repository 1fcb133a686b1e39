/** Runs the load scenario from the command line: `npm run soak -- 60 10`. */
import { Effect } from "effect"
import * as Arguments from "../../../../scripts/arguments.ts"
import { kinds, windows } from "./report.ts"
import { scenario } from "./scenario.ts"

const { values } = Arguments.read({
  name: "npm run soak",
  about:
    "Puts three servers over one Postgres under load, kills one every few seconds and restarts the database once.\n" +
    "Then checks that all that clients were told is so. It takes up to two minutes more than the load.",
  options: {},
  positionals: {
    seconds: { type: "integer", about: "How long the load lasts.", min: 1, max: 86_400, default: 60 },
    rate: { type: "integer", about: "Requests in a second, on average.", min: 1, max: 1000, default: 10 }
  }
})
const { client, notes, wrong } = await Effect.runPromise(Effect.scoped(scenario({ ...values, killEvery: 5000 })))
for (const line of [...notes, "", ...windows(client.asked, client.done), "", ...kinds(client.done)]) console.log(line)
for (const sentence of wrong) console.log(`WRONG ${sentence}`)
process.exit(wrong.length === 0 ? 0 : 1)
