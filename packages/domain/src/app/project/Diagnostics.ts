/** What is wrong with an app, as a person would say it. */
import type { Findings } from "../guest/collectFindings.ts"
import { stripAnsi } from "./stripAnsi.ts"

export interface Check {
  readonly name: "reachable" | "dev_server" | "type_check" | "missing_imports" | "disk_space"
  readonly ok: boolean
  /** What was found, in words for whoever writes the app. */
  readonly detail: string
  readonly durationMs: number
}

export interface Diagnosis {
  /** Whether every check is ok. */
  readonly success: boolean
  /** What is wrong, all together; empty where nothing is. */
  readonly output: string
  readonly checks: ReadonlyArray<Check>
}

/** Bytes below which a disk is as good as full: the package manager needs about as much for its next install. */
export const minFreeBytes = 256 * 1024 * 1024

const mebibytes = (bytes: number): string => `${Math.floor(bytes / 1024 / 1024)} MiB`

const lines = (problems: ReadonlyArray<{ readonly detail: string }>): string =>
  problems.map(({ detail }) => stripAnsi(detail)).join("\n")

const ofServer = ({ durationMs, said, status }: Findings["server"]): Check => {
  const name = "dev_server"
  const words = stripAnsi(said).trim()
  const last = words === "" ? "" : `. It said last:\n${words}`
  if (status === null) return { name, ok: false, detail: `The dev server does not answer${last}`, durationMs }
  const ok = status < 500
  return { name, ok, detail: `The dev server answers with ${status}${ok ? "" : last}`, durationMs }
}

const ofTypes = ({ durationMs, exitCode, output }: Findings["types"]): Check => {
  const name = "type_check"
  if (exitCode === null)
    return { name, ok: true, detail: "There is no tsconfig.json, or no compiler for it", durationMs }
  const detail =
    exitCode === 0 ? "The types are right" : stripAnsi(output).trim() || `The compiler ended with ${exitCode}`
  return { name, ok: exitCode === 0, detail, durationMs }
}

const ofImports = ({ broken, durationMs, files, looked, packages }: Findings["imports"]): Check => {
  const all = [...broken, ...files, ...packages]
  const good = looked ? "Every import leads somewhere" : "The imports could not be looked at"
  const ok = looked && all.length === 0
  return { name: "missing_imports", ok, detail: all.length === 0 ? good : lines(all), durationMs }
}

const ofDisk = ({ durationMs, free, size }: Findings["disk"]): Check => {
  const detail = `${mebibytes(free)} of ${mebibytes(size)} are free`
  const ok = free >= minFreeBytes
  return { name: "disk_space", ok, detail: ok ? detail : `The disk is nearly full: ${detail}`, durationMs }
}

const diagnosis = (checks: ReadonlyArray<Check>): Diagnosis => {
  const wrong = checks.filter(({ ok }) => !ok)
  return { success: wrong.length === 0, output: lines(wrong), checks }
}

/** What the findings of a sandbox mean that answered after so many milliseconds. */
export const diagnosisOf = (findings: Findings, answeredMs: number): Diagnosis =>
  diagnosis([
    { name: "reachable", ok: true, detail: "The sandbox runs", durationMs: answeredMs },
    ofServer(findings.server),
    ofTypes(findings.types),
    ofImports(findings.imports),
    ofDisk(findings.disk)
  ])

/** What there is to say where nothing could be looked at. */
export const unreachableDiagnosis = (reason: string, askedMs: number): Diagnosis => {
  const notLooked = (["dev_server", "type_check", "missing_imports", "disk_space"] as const).map((name): Check => ({
    name,
    ok: false,
    detail: "It was not looked at",
    durationMs: 0
  }))
  const reachable: Check = { name: "reachable", ok: false, detail: reason, durationMs: askedMs }
  return { success: false, output: reason, checks: [reachable, ...notLooked] }
}
