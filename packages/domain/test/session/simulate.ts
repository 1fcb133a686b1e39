/**
 * Runs many more histories than the tests do: `npm run simulate -- --seeds 10000`. Prints each failure, shrunk, and how
 * to reproduce it: `npm run simulate -- --seed 7 --path 12:3:0`.
 */
import { Effect } from "effect"
import * as fc from "fast-check"
import { availableParallelism } from "node:os"
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads"
import * as Arguments from "../../../../scripts/arguments.ts"
import { history } from "./History.ts"
import { simulate } from "./Model.ts"

/** Histories per seed; each worker takes one seed after another. */
const runsOfSeed = 50

interface Found {
  readonly seed: number
  readonly path: string
  readonly why: string
  readonly history: string
}

const look = async (seed: number, runs: number, path?: string): Promise<Found | null> => {
  const property = fc.asyncProperty(history, (history) => Effect.runPromise(simulate(history)))
  const result = await fc.check(property, { seed, numRuns: runs, ...(path === undefined ? {} : { path }) })
  if (!result.failed) return null
  return {
    seed,
    path: result.counterexamplePath ?? "",
    why: String(result.errorInstance),
    history: (result.counterexample?.[0] ?? []).map((command) => `  ${JSON.stringify(command)}`).join("\n")
  }
}

const tell = ({ history, path, seed, why }: Found) => {
  console.log(`\n${why}\n${history}\nnpm run simulate -- --seed ${seed} --path ${path}`)
}

const isSeeds = (data: unknown): data is { readonly first: number; readonly seeds: number; readonly step: number } =>
  typeof data === "object" && data !== null && "seeds" in data

const work = async () => {
  if (!isSeeds(workerData)) return
  const { first, seeds, step } = workerData
  for (let n = 0; n < seeds; n += step) parentPort!.postMessage(await look(first + n, runsOfSeed))
}

const seedsAtMost = 2 ** 31 - 1

const all = async () => {
  const { values } = Arguments.read({
    name: "npm run simulate",
    about: "Lets random histories happen to the model of a session, and prints those that break a rule of it.",
    options: {
      seeds: {
        type: "integer",
        about: `How many histories, in steps of ${runsOfSeed}.`,
        min: 1,
        max: 100_000_000,
        default: 1000
      },
      seed: { type: "integer", about: "The first seed; a random one if left out.", min: 0, max: seedsAtMost },
      path: {
        type: "text",
        about: "the path of one history that was found with the seed, such as 12:3:0",
        pattern: /^\d+(:\d+)*$/
      },
      workers: {
        type: "integer",
        about: "Threads that search.",
        min: 1,
        max: 256,
        default: availableParallelism()
      }
    }
  })
  if (values.path !== undefined) {
    const found = await look(values.seed ?? 1, 1, values.path)
    if (found === null) return console.log("It holds.")
    process.exitCode = 1
    return tell(found)
  }
  const first = values.seed ?? Math.floor(Math.random() * 1_000_000_000)
  const seeds = Math.ceil(values.seeds / runsOfSeed)
  const workers = Math.min(values.workers, seeds)
  const began = performance.now()
  let done = 0
  let failed = 0
  await Promise.all(
    Array.from(
      { length: workers },
      (_, n) =>
        new Promise<void>((resolve, reject) => {
          const data = { first: first + n, seeds: seeds - n, step: workers }
          const worker = new Worker(new URL(import.meta.url), { workerData: data })
          worker.on("message", (found: Found | null) => {
            done += runsOfSeed
            if (found !== null) {
              failed++
              tell(found)
            } else if (done % 1000 === 0) console.log(`${done} histories`)
          })
          worker.on("error", reject)
          worker.on("exit", () => resolve())
        })
    )
  )
  const seconds = Math.round((performance.now() - began) / 1000)
  console.log(`${done} histories from seed ${first} in ${seconds} s on ${workers} workers: ${failed} seeds failed`)
  const expected = seeds * runsOfSeed
  if (done < expected) console.log(`${expected - done} histories are missing: a worker ended early`)
  if (failed > 0 || done < expected) process.exitCode = 1
}

await (isMainThread ? all() : work())
