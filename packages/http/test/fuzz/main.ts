/**
 * Runs the fuzzer longer than the tests do: `npm run fuzz -- --count 100000 --seed 1`. Prints each failing request,
 * shrunk, and how to reproduce it: `npm run fuzz -- --seed 7 --path 12:3:0`. `--store pglite` uses the Postgres stores
 * over an embedded database.
 */
import * as Db from "@castellan/adapters/postgres/Db.ts"
import * as Stores from "@castellan/adapters/postgres/stores.ts"
import * as PgBossTaskRunner from "@castellan/adapters/tasks/PgBossTaskRunner.ts"
import { Layer } from "effect"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { answers, type Found, look } from "./Fuzz.ts"

/** Requests per seed and API. More would fill the API with what they create. */
const requestsOfSeed = 500

const print = ({ path, request, seed, why }: Found, store: string) => {
  const again = `npm run fuzz -- --seed ${seed} --path ${path}${store === "memory" ? "" : ` --store ${store}`}`
  const shown = JSON.stringify(request)
  console.log(`\n${request.operation}: ${why}\n${shown.length > 2000 ? `${shown.slice(0, 2000)}…` : shown}\n${again}`)
}

const { values } = parseArgs({
  options: {
    count: { type: "string", default: "10000" },
    seed: { type: "string", default: "1" },
    path: { type: "string" },
    store: { type: "string", default: "memory" }
  }
})
const first = Number(values.seed)
const count = Number(values.count)

/** Stores over a new database. */
const postgres = () => {
  const directory = mkdtempSync(join(tmpdir(), "castellan-fuzz-"))
  const stores = Layer.merge(Stores.layer, PgBossTaskRunner.layer).pipe(
    Layer.provide(Db.layerPglite({ directory: join(directory, "postgres") })),
    Layer.orDie
  )
  return { stores, remove: () => rmSync(directory, { recursive: true, force: true }) }
}

const round = async (seed: number, runs: number) => {
  const database = values.store === "pglite" ? postgres() : undefined
  try {
    return await look(seed, runs, { path: values.path, instead: database?.stores })
  } finally {
    database?.remove()
  }
}

let found = 0
let tried = 0
for (let seed = first; tried < count; seed++) {
  const runs = values.path === undefined ? Math.min(requestsOfSeed, count - tried) : 1
  const one = await round(seed, runs)
  tried += runs
  if (one !== null) {
    found++
    print(one, values.store)
  }
  if (values.path !== undefined) break
}
for (const [operation, statuses] of [...answers].toSorted()) {
  const often = [...statuses].toSorted(([one], [other]) => one - other).map(([status, times]) => `${times}x ${status}`)
  console.log(`${operation}: ${often.join(", ")}`)
}
console.log(
  `${tried} requests from seed ${first} on: ${found === 0 ? "all answered well" : `${found} seeds found a fault`}`
)
process.exit(found === 0 ? 0 : 1)
