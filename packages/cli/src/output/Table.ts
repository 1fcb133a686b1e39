/** Formats tables for people, aligned by display width. */
import { displayWidth } from "effect/cli/CliOutput"

/** The value of a cell; null or undefined is shown as `-`. */
export type Cell = string | number | null | undefined

/** Replaces control characters, so that text from elsewhere can't move the cursor, change colours or begin a line. */
// oxlint-disable-next-line no-control-regex
export const plain = (text: string): string => text.replace(/[\u0000-\u001f\u007f-\u009f]+/g, " ")

const shown = (cell: Cell) => plain(String(cell ?? "-"))

const aligned = (rows: ReadonlyArray<ReadonlyArray<string>>): string => {
  const widths: Array<number> = []
  for (const row of rows) {
    row.forEach((cell, column) => (widths[column] = Math.max(widths[column] ?? 0, displayWidth(cell))))
  }
  const line = (row: ReadonlyArray<string>) =>
    row
      .map((cell, column) => cell + " ".repeat(widths[column]! - displayWidth(cell)))
      .join("  ")
      .trimEnd()
  return rows.map((row) => `${line(row)}\n`).join("")
}

/** A table with headings; empty if there are no rows. */
export const table = (headings: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<Cell>>): string =>
  rows.length === 0 ? "" : aligned([headings, ...rows.map((row) => row.map(shown))])

/** A record, one line for each field. */
export const fields = (record: Record<string, Cell>): string =>
  aligned(Object.entries(record).map(([name, value]) => [name, shown(value)]))

const units: ReadonlyArray<readonly [string, number]> = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["min", 60_000],
  ["s", 1000]
]

/** Formats milliseconds by the largest unit and the next smaller one, such as `1 h 30 min`. */
export const span = (millis: number): string => {
  if (millis < 1000) return millis === 0 ? "0 s" : `${millis} ms`
  const at = units.findIndex(([, size]) => millis >= size)
  const [unit, size] = units[at]!
  const smaller = units[at + 1]
  const rest = smaller === undefined ? 0 : Math.floor((millis % size) / smaller[1])
  return `${Math.floor(millis / size)} ${unit}${smaller === undefined || rest === 0 ? "" : ` ${rest} ${smaller[0]}`}`
}
