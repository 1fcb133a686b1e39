/** Kills servers under their sessions for as long as is asked for: `npm run soak:sessions -- 600`, in seconds. */
import { Effect } from "effect"
import { underFire } from "./sessionsUnderFire.ts"

const seconds = Number(process.argv[2] ?? 300)
const { done, wrong } = await Effect.runPromise(Effect.scoped(underFire(seconds)))
console.log(done)
for (const sentence of wrong) console.log(sentence)
process.exit(wrong.length === 0 ? 0 : 1)
