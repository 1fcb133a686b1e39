/** Runs the session stress scenario from the command line: `npm run soak:sessions -- 600`. */
import { Effect } from "effect"
import * as Arguments from "../../../../scripts/arguments.ts"
import { sessionStress } from "./sessionStress.ts"

const { values } = Arguments.read({
  name: "npm run soak:sessions",
  about: "Kills two servers again and again while clients work in sessions, then checks that no work is lost.",
  options: {},
  positionals: {
    seconds: { type: "integer", about: "How long servers are killed.", min: 1, max: 86_400, default: 300 }
  }
})
const { done, wrong } = await Effect.runPromise(Effect.scoped(sessionStress(values.seconds)))
console.log(done)
for (const sentence of wrong) console.log(`WRONG ${sentence}`)
process.exit(wrong.length === 0 ? 0 : 1)
