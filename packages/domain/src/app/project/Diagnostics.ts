/** Turns the facts collected inside an app's sandbox into checks with sentences for its author. */
import type { Findings } from "../guest/collectFindings.ts"
import { stripAnsi } from "./stripAnsi.ts"

export interface Check {
  readonly name: "reachable" | "dev_server" | "type_check" | "missing_imports" | "disk_space"
  readonly ok: boolean
  /** The result as a sentence for the app's author. */
  readonly detail: string
  readonly durationMs: number
}

export interface Diagnosis {
  /** Whether every check passed. */
  readonly success: boolean
  /** The details of all failed checks; empty if every check passed. */
  readonly output: string
  readonly checks: ReadonlyArray<Check>
}

/** Free bytes below which a disk counts as full: an install of packages needs about this much. */
export const minFreeBytes = 256 * 1024 * 1024

const mebibytes = (bytes: number): string => `${Math.floor(bytes / 1024 / 1024)} MiB`

const lines = (problems: ReadonlyArray<{ readonly detail: string }>): string =>
  problems.map(({ detail }) => stripAnsi(detail)).join("\n")

const checkServer = ({ durationMs, said, status }: Findings["server"]): Check => {
  const name = "dev_server"
  const output = stripAnsi(said).trim()
  const last = output === "" ? "" : `. Its last output:\n${output}`
  if (status === null) return { name, ok: false, detail: `The dev server does not answer${last}`, durationMs }
  const ok = status < 500
  return { name, ok, detail: `The dev server answers with ${status}${ok ? "" : last}`, durationMs }
}

const checkTypes = ({ durationMs, exitCode, output }: Findings["types"]): Check => {
  const name = "type_check"
  if (exitCode === null)
    return { name, ok: true, detail: "The project has no tsconfig.json or no TypeScript compiler", durationMs }
  const detail =
    exitCode === 0 ? "No type errors" : stripAnsi(output).trim() || `The compiler exited with code ${exitCode}`
  return { name, ok: exitCode === 0, detail, durationMs }
}

const checkImports = ({ broken, durationMs, files, looked, packages }: Findings["imports"]): Check => {
  const all = [...broken, ...files, ...packages]
  const good = looked ? "Every import resolves" : "The imports could not be checked"
  const ok = looked && all.length === 0
  return { name: "missing_imports", ok, detail: all.length === 0 ? good : lines(all), durationMs }
}

const checkDisk = ({ durationMs, free, size }: Findings["disk"]): Check => {
  const detail = `${mebibytes(free)} of ${mebibytes(size)} are free`
  const ok = free >= minFreeBytes
  return { name: "disk_space", ok, detail: ok ? detail : `The disk is nearly full: ${detail}`, durationMs }
}

const diagnosis = (checks: ReadonlyArray<Check>): Diagnosis => {
  const wrong = checks.filter(({ ok }) => !ok)
  return { success: wrong.length === 0, output: lines(wrong), checks }
}

/** The diagnosis of a sandbox that answered after `answeredMs` milliseconds. */
export const diagnosisOf = (findings: Findings, answeredMs: number): Diagnosis =>
  diagnosis([
    { name: "reachable", ok: true, detail: "The sandbox runs", durationMs: answeredMs },
    checkServer(findings.server),
    checkTypes(findings.types),
    checkImports(findings.imports),
    checkDisk(findings.disk)
  ])

/** The diagnosis of a sandbox in which no check could run. */
export const unreachableDiagnosis = (reason: string, askedMs: number): Diagnosis => {
  const skipped = (["dev_server", "type_check", "missing_imports", "disk_space"] as const).map((name): Check => ({
    name,
    ok: false,
    detail: "This was not checked",
    durationMs: 0
  }))
  const reachable: Check = { name: "reachable", ok: false, detail: reason, durationMs: askedMs }
  return { success: false, output: reason, checks: [reachable, ...skipped] }
}
