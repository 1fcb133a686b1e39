/** Prints the results of the benchmarks, without judging them. */
import { spawnSync } from "node:child_process"
import { arch, availableParallelism, cpus, release, totalmem, type } from "node:os"

/** How much to measure: enough for meaningful results, or only enough to show that the benchmark works. */
export type Size = "whole" | "quick"

const quantile = (sorted: ReadonlyArray<number>, part: number) =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? NaN

/** Median and 95th percentile. */
export const quantiles = (times: ReadonlyArray<number>): ReadonlyArray<number> => {
  const sorted = times.toSorted((a, b) => a - b)
  return [0.5, 0.95].map((part) => quantile(sorted, part))
}

const git = (...args: ReadonlyArray<string>): string => {
  const { status, stdout } = spawnSync("git", args, { cwd: import.meta.dirname, encoding: "utf8" })
  return status === 0 ? stdout.trim() : ""
}

const commit = (): string => {
  const hash = git("rev-parse", "--short=12", "HEAD")
  if (hash === "") return "unknown"
  return git("status", "--porcelain") === "" ? hash : `${hash} with uncommitted changes`
}

/** Prints what the results depend on: the machine, the software and the size. */
export const printFacts = (size: Size): void => {
  const all = cpus()
  const facts = {
    cores: String(availableParallelism()),
    processor: all[0]?.model.trim() ?? "unknown",
    memory: `${(totalmem() / 2 ** 30).toFixed(0)} GiB`,
    kernel: `${type()} ${release()} ${arch()}`,
    node: process.version,
    date: new Date().toISOString(),
    commit: commit(),
    size: size === "quick" ? "quick: shows that the benchmarks work; its results are not meaningful" : "whole"
  }
  for (const [name, fact] of Object.entries(facts)) console.log(`${name.padEnd(11)}${fact}`)
}

export const heading = (text: string) => console.log(`\n${text}\n`)

const shown = (value: number) => `${value.toFixed(1)} ms`.padStart(12)

/** Prints a row of times: their number, median, 95th and 99th percentile. */
export const row = (name: string, times: ReadonlyArray<number>, more = "") => {
  const sorted = times.toSorted((a, b) => a - b)
  const figures = [0.5, 0.95, 0.99].map((part) => shown(quantile(sorted, part))).join("")
  console.log(`${name.padEnd(46)}${String(times.length).padStart(5)}${figures}  ${more}`)
}

export const columns = () =>
  console.log(`${"".padEnd(46)}${"n".padStart(5)}${"p50".padStart(12)}${"p95".padStart(12)}${"p99".padStart(12)}`)

export const timed = async <A>(times: Array<number>, run: () => Promise<A>): Promise<A> => {
  const start = performance.now()
  const result = await run()
  times.push(performance.now() - start)
  return result
}
