/** `npm run soak -- 60 10`: for so many seconds, with so many arrivals in one. */
import { Effect } from "effect"
import { kinds, windows } from "./report.ts"
import { scenario } from "./scenario.ts"

const [seconds = "60", rate = "10"] = process.argv.slice(2)
const options = { seconds: Number(seconds), rate: Number(rate), killEvery: 5000 }
const { client, notes, wrong } = await Effect.runPromise(Effect.scoped(scenario(options)))
for (const line of [...notes, "", ...windows(client.asked, client.done), "", ...kinds(client.done)]) console.log(line)
for (const sentence of wrong) console.log(`WRONG ${sentence}`)
process.exit(wrong.length === 0 ? 0 : 1)
