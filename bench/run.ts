/** Runs the benchmarks, or those that are named: `npm run bench -- interactive`. */
import * as apps from "./apps.ts"
import { machine } from "./figures.ts"
import * as images from "./images.ts"
import * as interactive from "./interactive.ts"
import * as overhead from "./overhead.ts"
import * as sessions from "./sessions.ts"

const benchmarks: Record<string, { readonly run: () => Promise<void> }> = {
  interactive,
  overhead,
  images,
  sessions,
  apps
}

const wanted = process.argv.slice(2)
const unknown = wanted.filter((name) => !Object.hasOwn(benchmarks, name))
if (unknown.length > 0) {
  console.error(`There is no benchmark ${unknown.join(", ")}; there are ${Object.keys(benchmarks).join(", ")}.`)
  process.exit(1)
}

console.log(machine())
for (const [name, { run }] of Object.entries(benchmarks)) {
  if (wanted.length === 0 || wanted.includes(name)) await run()
}
process.exit(0)
