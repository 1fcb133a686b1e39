/** What a client saw, by windows of ten seconds. Nothing here judges it. */
import type { Asked } from "./Client.ts"

const window = 10_000

const quantile = (sorted: ReadonlyArray<number>, part: number) =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))]

const milliseconds = (value: number | undefined) => (value === undefined ? "-" : `${Math.round(value)} ms`).padStart(10)

const quantiles = (all: ReadonlyArray<Asked>) => {
  const sorted = all.map(({ took }) => took).toSorted((a, b) => a - b)
  return [0.5, 0.95, 0.99].map((part) => milliseconds(quantile(sorted, part))).join("")
}

const counted = (all: ReadonlyArray<Asked>) => {
  const counts = new Map<string, number>()
  for (const { answer } of all) counts.set(answer, (counts.get(answer) ?? 0) + 1)
  return [...counts].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([answer, count]) => `${answer} ×${count}`)
}

const isGood = ({ answer }: Asked) => /^[1-4]\d\d$/.test(answer)

/** Lines of a table: each window's requests, how many were not answered well, and how long what was wanted took. */
export const windows = (asked: ReadonlyArray<Asked>, done: ReadonlyArray<Asked>): ReadonlyArray<string> => {
  const last = Math.max(0, ...asked.map(({ at }) => at))
  const lines = [
    `${"seconds".padEnd(10)}${"requests".padStart(9)}${"errors".padStart(8)}       p50       p95       p99  answers`
  ]
  for (let from = 0; from <= last; from += window) {
    const within = ({ at }: Asked) => at >= from && at < from + window
    const requests = asked.filter(within)
    const bad = requests.filter((one) => !isGood(one)).length
    const share = requests.length === 0 ? "-" : `${((100 * bad) / requests.length).toFixed(1)} %`
    const name = `${from / 1000}–${(from + window) / 1000}`.padEnd(10)
    lines.push(
      `${name}${`${requests.length}`.padStart(9)}${share.padStart(8)}${quantiles(done.filter(within))}  ${counted(requests).join(", ")}`
    )
  }
  return lines
}

/** Lines of a table: what was wanted, by kind. */
export const kinds = (done: ReadonlyArray<Asked>): ReadonlyArray<string> =>
  [...new Set(done.map(({ what }) => what))].toSorted().map((what) => {
    const all = done.filter((one) => one.what === what)
    return `${what.padEnd(10)}${`${all.length}`.padStart(9)}        ${quantiles(all)}  ${counted(all).join(", ")}`
  })
