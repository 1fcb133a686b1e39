/**
 * Mutation testing: makes random semantic changes, one at a time, and lists those that no related test detects.
 * `npm run mutate -- --count 60 [--seed N] [--only domain|adapters|testkit|http] [--file part-of-a-path]
 * [--tests N] [--threshold percent]`
 */
import { existsSync, globSync } from "node:fs"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { copyOf } from "./checkout.ts"
import { applied, type Mutant, mutantsOf } from "./mutators.ts"
import { relatedTests } from "./related.ts"

const targets = {
  domain: ["packages/domain/src/**/*.ts"],
  adapters: ["packages/adapters/src/postgres/**/*.ts", "packages/adapters/src/tasks/*.ts"],
  testkit: ["packages/testkit/src/fakes/**/*.ts"],
  http: ["packages/http/src/**/*.ts"]
}

const { values: options } = parseArgs({
  options: {
    count: { type: "string", default: "60" },
    seed: { type: "string", default: String(Date.now() % 100_000) },
    /** Restricts the mutants to one part of the code. */
    only: { type: "string" },
    /** Restricts the mutants to files whose path contains one of these. */
    file: { type: "string", multiple: true },
    /** Maximum number of related test files per mutant, the closest first. */
    tests: { type: "string", default: "16" },
    /** Minimum share of killed mutants in percent; below it the exit code is 1. */
    threshold: { type: "string" }
  }
})

const [count, seed, mostTests] = [options.count, options.seed, options.tests].map(Number) as [number, number, number]
const only = options.only as keyof typeof targets | undefined
if (![count, seed, mostTests].every(Number.isSafeInteger) || (only !== undefined && !(only in targets))) {
  console.error("--count, --seed and --tests must be integers; --only must be domain, adapters, testkit or http")
  process.exit(2)
}

/** Time limit of a test file without a mutant. */
const longest = 300_000
/** Time limit of test files with a mutant, given their time without it. A mutant that exceeds it hangs. */
const deadlineOf = (millis: number) => 20_000 + 4 * millis
/** Number of test files run after each step. The closest test kills most mutants. */
const steps = [1, 4, mostTests].map((most) => Math.min(most, mostTests))

const root = process.cwd()

const oneLine = (text: string) => text.replace(/\s+/g, " ").trim().slice(0, 300)

const files = globSync(
  options.file === undefined
    ? only === undefined
      ? [...targets.domain, ...targets.adapters, ...targets.http]
      : targets[only]
    : ["packages/*/src/**/*.ts"],
  { cwd: root }
)
  .filter((file) => options.file === undefined || options.file.some((part) => file.includes(part)))
  .toSorted()

/** Pseudorandom numbers from 0 to 1, determined by the seed (mulberry32). */
const randomOf = (seed: number) => {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

const shuffled = <A>(all: ReadonlyArray<A>) => {
  const random = randomOf(seed)
  return all
    .map((value) => ({ value, order: random() }))
    .toSorted((a, b) => a.order - b.order)
    .map(({ value }) => value)
}

const checkout = copyOf(root)
const related = relatedTests(checkout.root)
const vitest = join(root, "node_modules/vitest/vitest.mjs")

/** The mutants that compile. The compiler detects the others. */
const compiling = async (mutants: ReadonlyArray<Mutant>): Promise<ReadonlyArray<Mutant>> => {
  // Writes all mutants beside their originals: checking them together takes as long as checking one.
  const named = mutants.map((mutant, i) => ({ mutant, file: mutant.file.replace(/\.ts$/, `.mutant${i}.ts`) }))
  for (const { file, mutant } of named) checkout.write(file, applied(checkout.read(mutant.file), mutant))
  const compilerOptions = { types: ["node"], lib: ["ES2024", "DOM", "DOM.Iterable"] }
  // Without the rule against unused names, which a mutant may break although its change matters.
  const lenient = { ...compilerOptions, noUnusedLocals: false, noUnusedParameters: false }
  checkout.write(
    "tsconfig.mutants.json",
    JSON.stringify({ extends: "./tsconfig.base.json", compilerOptions: lenient, files: named.map(({ file }) => file) })
  )
  const { output } = await checkout.run(
    [join(root, "node_modules/typescript/bin/tsc"), "-p", "tsconfig.mutants.json", "--pretty", "false"],
    600_000
  )
  for (const { file } of named) checkout.remove(file)
  return named.filter(({ file }) => !output.includes(`${file}(`)).map(({ mutant }) => mutant)
}

interface TestRun {
  /** The test files that failed; undefined without a report. */
  readonly failed: ReadonlyArray<string> | undefined
  readonly passed: boolean
  /** The first error. */
  readonly reason: string
}

interface Report {
  readonly success: boolean
  readonly testResults: ReadonlyArray<{
    readonly name: string
    readonly status: string
    readonly message: string
    readonly assertionResults: ReadonlyArray<{
      readonly status: string
      readonly fullName: string
      readonly failureMessages: ReadonlyArray<string>
    }>
  }>
}

const runTests = async (tests: ReadonlyArray<string>, deadlineMillis: number): Promise<TestRun> => {
  const report = "report.json"
  checkout.remove(report)
  const { code, late, output } = await checkout.run(
    [vitest, "run", "--config=vitest.workspace.ts", "--bail=1", "--reporter=json", `--outputFile=${report}`, ...tests],
    deadlineMillis
  )
  if (late || !existsSync(join(checkout.root, report))) {
    return { failed: undefined, passed: false, reason: `${late ? "deadline" : "no report"}: ${output.slice(-1000)}` }
  }
  const { success, testResults } = JSON.parse(checkout.read(report)) as Report
  const failed = testResults.filter(({ status }) => status === "failed")
  const test = failed.flatMap(({ assertionResults }) => assertionResults).find(({ status }) => status === "failed")
  return {
    failed: failed.map(({ name }) => name.slice(checkout.root.length + 1)),
    passed: success && code === 0 && testResults.length > 0,
    reason: oneLine(`${test?.fullName ?? ""} ${test?.failureMessages[0] ?? failed[0]?.message ?? output.slice(-1000)}`)
  }
}

/** The time in milliseconds of a test file without a mutant, measured once; undefined if it fails. */
const measured = new Map<string, number | undefined>()
const measure = async (test: string) => {
  if (measured.has(test)) return measured.get(test)
  const begun = Date.now()
  const { passed, reason } = await runTests([test], longest)
  if (!passed) console.log(`Skipped a test that fails without a mutant: ${test}: ${reason}`)
  measured.set(test, passed ? Date.now() - begun : undefined)
  return measured.get(test)
}

/** The test files that kill a mutant; undefined if it survives. */
const killersOf = async (mutant: Mutant): Promise<ReadonlyArray<string> | undefined> => {
  const original = checkout.read(mutant.file)
  const tests = related(mutant.file)
  for (const [i, to] of steps.entries()) {
    const chosen: Array<string> = []
    let millis = 0
    for (const test of tests.slice(steps[i - 1] ?? 0, to)) {
      const takes = await measure(test)
      if (takes === undefined) continue
      chosen.push(test)
      millis += takes
    }
    if (chosen.length === 0) continue
    checkout.write(mutant.file, applied(original, mutant))
    const { failed, passed } = await runTests(chosen, deadlineOf(millis))
    checkout.write(mutant.file, original)
    if (!passed) return failed === undefined || failed.length === 0 ? chosen : failed
  }
  return undefined
}

/** The position of a mutant and its change. */
const describe = (mutant: Mutant) => {
  const source = checkout.read(mutant.file)
  const line = source.slice(0, mutant.start).split("\n").length
  // Includes enough context to locate a short change.
  const [from, to] = [Math.max(0, mutant.start - 30), mutant.end + 30]
  const around = (text: string) =>
    oneLine(source.slice(from, mutant.start) + text + source.slice(mutant.end, to)).slice(0, 140)
  return [
    `${mutant.file}:${line}`,
    `           - ${around(source.slice(mutant.start, mutant.end))}`,
    `           + ${around(mutant.replacement)}`
  ].join("\n")
}

console.log(`Seed ${seed}, ${files.length} files`)
const candidates = shuffled(files.flatMap((file) => mutantsOf(file, checkout.read(file))))
const survivors: Array<Mutant> = []
let done = 0
while (done < count && candidates.length > 0) {
  const wanted = Math.ceil((count - done) * 1.5) + 5
  for (const mutant of await compiling(candidates.splice(0, wanted))) {
    if (done >= count) break
    const begun = Date.now()
    const killers = await killersOf(mutant)
    done++
    if (killers === undefined) survivors.push(mutant)
    const seconds = ((Date.now() - begun) / 1000).toFixed(1)
    console.log(`${killers === undefined ? "SURVIVED" : "killed  "} ${describe(mutant)}`)
    console.log(`           ${seconds} s${killers === undefined ? "" : `, ${killers.slice(0, 2).join(", ")}`}`)
  }
}

const share = done === 0 ? 0 : ((done - survivors.length) / done) * 100
if (survivors.length > 0) console.log(`\nSurvivors:\n${survivors.map((mutant) => `  ${describe(mutant)}`).join("\n")}`)
console.log(`\n${done - survivors.length} of ${done} mutants killed (${share.toFixed(1)} %), seed ${seed}`)
process.exit(done === 0 || share < Number(options.threshold ?? 0) ? 1 : 0)
