/**
 * Runs vitest and decides whether the run passed. The exit code of vitest is not enough: a library can exit the process with
 * code 0. A run passes if vitest reported its end, no test failed, no error was unhandled, and at least one test ran; without
 * a filter, at least one test of every project.
 *
 * Usage: node scripts/test.mjs [--config FILE] [arguments of `vitest run`]
 */
import { spawn } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { constants, tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const root = join(dirname(fileURLToPath(import.meta.url)), "..")
const everything = "vitest.workspace.ts"

const given = process.argv.slice(2)
const [config, args] = given[0] === "--config" ? [given[1], given.slice(2)] : [everything, given]

const directory = mkdtempSync(join(tmpdir(), "castellan-test-"))
const reportFile = join(directory, "report.json")

/** The reporter's result; undefined if vitest exited before the end of the run. */
const readReport = () => {
  try {
    return JSON.parse(readFileSync(reportFile, "utf8"))
  } catch {
    return undefined
  }
}

/** The reasons why the run failed; empty if it passed. */
const problemsOf = (code, report) => {
  if (report === undefined) return ["vitest ended before it reported the end of the run"]
  const { failed, failedModules, passed, projects, reason, unhandledErrors } = report
  const untested = Object.keys(projects).filter((name) => projects[name] === 0)
  return [
    failed > 0 && `${failed} failed`,
    failedModules > 0 && `${failedModules} test files failed`,
    unhandledErrors > 0 && `${unhandledErrors} unhandled errors`,
    reason !== "passed" && `the run was reported as ${reason}`,
    passed === 0 && "no test ran",
    config === everything && args.length === 0 && untested.length > 0 && `no test ran of ${untested.join(", ")}`,
    code !== 0 && `vitest exited with ${code}`
  ].filter((problem) => problem !== false)
}

const vitest = spawn(
  process.execPath,
  [
    join(root, "node_modules", "vitest", "vitest.mjs"),
    "run",
    `--config=${config}`,
    "--reporter=default",
    "--reporter=./scripts/test/reporter.mjs",
    ...args
  ],
  { cwd: root, stdio: "inherit", env: { ...process.env, CASTELLAN_TEST_REPORT: reportFile } }
)

// A terminal sends these signals to vitest as well, which then stops its workers. This process waits for it.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => vitest.kill(signal))

vitest.on("close", (code, signal) => {
  const report = readReport()
  rmSync(directory, { recursive: true, force: true })
  const exitCode = code ?? 128 + constants.signals[signal]
  const problems = problemsOf(exitCode, report)
  if (problems.length > 0) console.error(`The test run failed: ${problems.join("; ")}`)
  if (report !== undefined) {
    console.log(`${report.passed} passed, ${report.failed} failed, ${report.skipped} skipped`)
  }
  process.exitCode = problems.length === 0 ? 0 : exitCode || 1
})
