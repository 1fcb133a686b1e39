/** Figures as they are printed. Nothing here judges one. */
import { cpus, totalmem } from "node:os"
import { release } from "node:process"

const quantile = (sorted: ReadonlyArray<number>, part: number) =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? NaN

/** Median and 95th percentile. */
export const quantiles = (times: ReadonlyArray<number>): ReadonlyArray<number> => {
  const sorted = times.toSorted((a, b) => a - b)
  return [0.5, 0.95].map((part) => quantile(sorted, part))
}

export const machine = (): string => {
  const all = cpus()
  const memory = `${(totalmem() / 2 ** 30).toFixed(0)} GiB`
  return `${all.length} × ${all[0]?.model.trim() ?? "unknown processor"}, ${memory}, ${process.platform} ${process.arch}, ${release.name} ${process.version}`
}

export const heading = (text: string) => console.log(`\n${text}\n`)

const shown = (value: number) => `${value.toFixed(1)} ms`.padStart(12)

/** A row of times: how many, and their median, 95th and 99th percentile. */
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
