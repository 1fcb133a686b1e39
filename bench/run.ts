/** Runs the benchmarks, or those that are named: `npm run bench -- interactive`. */
import { Effect } from "effect"
import { inspect } from "node:util"
import * as Arguments from "../scripts/arguments.ts"
import * as apps from "./apps.ts"
import type { Benchmark } from "./castellan.ts"
import { printFacts } from "./figures.ts"
import * as images from "./images.ts"
import * as interactive from "./interactive.ts"
import * as neighbours from "./neighbours.ts"
import * as overhead from "./overhead.ts"
import * as sessions from "./sessions.ts"

const benchmarks: Record<string, Benchmark> = { interactive, neighbours, overhead, images, sessions, apps }

const { values, words } = Arguments.read({
  name: "npm run bench",
  about: "Runs the named benchmarks, or all, and prints their times.",
  options: {
    quick: { type: "switch", about: "Measure only a few times, to show that the benchmarks work." }
  },
  words: Object.fromEntries(Object.entries(benchmarks).map(([name, { about }]) => [name, about]))
})

const size = values.quick ? "quick" : "whole"
printFacts(size)
for (const [name, { run }] of Object.entries(benchmarks)) {
  if (words.length > 0 && !words.includes(name)) continue
  try {
    await Effect.runPromise(Effect.scoped(run(size)))
  } catch (cause) {
    console.error(`\nThe benchmark ${name} failed: ${inspect(cause, { depth: 8 })}`)
    process.exit(1)
  }
}
process.exit(0)
