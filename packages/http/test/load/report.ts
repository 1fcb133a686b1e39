/** Formats a client's measurements in windows of ten seconds, without judging them. */
import type { RequestRecord } from "./Client.ts"

const window = 10_000

const quantile = (sorted: ReadonlyArray<number>, part: number) =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))]

const milliseconds = (value: number | undefined) => (value === undefined ? "-" : `${Math.round(value)} ms`).padStart(10)

const quantiles = (all: ReadonlyArray<RequestRecord>) => {
  const sorted = all.map(({ took }) => took).toSorted((a, b) => a - b)
  return [0.5, 0.95, 0.99].map((part) => milliseconds(quantile(sorted, part))).join("")
}

const counted = (all: ReadonlyArray<RequestRecord>) => {
  const counts = new Map<string, number>()
  for (const { answer } of all) counts.set(answer, (counts.get(answer) ?? 0) + 1)
  return [...counts].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([answer, count]) => `${answer} ×${count}`)
}

const isGood = ({ answer }: RequestRecord) => /^[1-4]\d\d$/.test(answer)

/** Table rows for each window: requests, failures and latencies. */
export const windows = (
  asked: ReadonlyArray<RequestRecord>,
  done: ReadonlyArray<RequestRecord>
): ReadonlyArray<string> => {
  const last = Math.max(0, ...asked.map(({ at }) => at))
  const lines = [
    `${"seconds".padEnd(10)}${"requests".padStart(9)}${"errors".padStart(8)}       p50       p95       p99  answers`
  ]
  for (let from = 0; from <= last; from += window) {
    const within = ({ at }: RequestRecord) => at >= from && at < from + window
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

/** Table rows for each kind of request. */
export const kinds = (done: ReadonlyArray<RequestRecord>): ReadonlyArray<string> =>
  [...new Set(done.map(({ what }) => what))].toSorted().map((what) => {
    const all = done.filter((one) => one.what === what)
    return `${what.padEnd(10)}${`${all.length}`.padStart(9)}        ${quantiles(all)}  ${counted(all).join(", ")}`
  })
