import { diagnosisOf, minFreeBytes, unreachableDiagnosis } from "../../../src/app/project/Diagnostics.ts"
import type { Findings } from "../../../src/app/guest/collectFindings.ts"
import { assert, describe, it } from "@effect/vitest"

const fine: Findings = {
  server: { status: 200, said: "ready in 200 ms", durationMs: 12 },
  types: { exitCode: 0, output: "", durationMs: 300 },
  imports: { looked: true, broken: [], files: [], packages: [], durationMs: 200 },
  disk: { free: 2 ** 33, size: 2 ** 35, durationMs: 1 }
}

const failing = (findings: Partial<Findings>) => {
  const { checks, output, success } = diagnosisOf({ ...fine, ...findings }, 5)
  return { success, output, names: checks.flatMap(({ name, ok }) => (ok ? [] : [name])) }
}

describe("Diagnostics", () => {
  it("passes every check of a working app and has no output", () => {
    const { checks, output, success } = diagnosisOf(fine, 5)
    assert.isTrue(success)
    assert.strictEqual(output, "")
    assert.deepStrictEqual(
      checks.map(({ durationMs, name, ok }) => [name, ok, durationMs]),
      [
        ["reachable", true, 5],
        ["dev_server", true, 12],
        ["type_check", true, 300],
        ["missing_imports", true, 200],
        ["disk_space", true, 1]
      ]
    )
  })

  it("includes the compiler's output in a failed type check", () => {
    const output = "src/App.tsx(3,20): error TS1109: Expression expected."
    const found = failing({ types: { exitCode: 1, output: `${output}\n`, durationMs: 1 } })
    assert.deepStrictEqual(found, { success: false, output, names: ["type_check"] })
  })

  it("reports imports of missing files and packages, and files that cannot be parsed", () => {
    const found = failing({
      imports: {
        looked: true,
        broken: [{ file: "src/a.tsx", detail: "src/a.tsx:1: Unexpected token" }],
        files: [{ file: "src/b.tsx", detail: 'src/b.tsx:2 imports "./c", and there is no such file' }],
        packages: [{ file: "src/b.tsx", detail: 'src/b.tsx:3 imports "lodash", and lodash is not installed' }],
        durationMs: 1
      }
    })
    assert.isFalse(found.success)
    assert.deepStrictEqual(found.names, ["missing_imports"])
    for (const word of ["Unexpected token", "./c", "lodash is not installed"]) assert.include(found.output, word)
  })

  it("fails the dev server check without an answer or with status 500, and includes the last output", () => {
    const silent = failing({ server: { status: null, said: "failed to load config\n", durationMs: 1 } })
    assert.deepStrictEqual(silent.names, ["dev_server"])
    assert.include(silent.output, "does not answer")
    assert.include(silent.output, "failed to load config")
    assert.deepStrictEqual(failing({ server: { status: 500, said: "", durationMs: 1 } }).names, ["dev_server"])
    assert.deepStrictEqual(failing({ server: { status: 404, said: "", durationMs: 1 } }).names, [])
  })

  it("fails the disk check below the minimum of free bytes", () => {
    assert.deepStrictEqual(failing({ disk: { free: minFreeBytes - 1, size: 2 ** 40, durationMs: 1 } }).names, [
      "disk_space"
    ])
    assert.deepStrictEqual(failing({ disk: { free: minFreeBytes, size: 2 ** 40, durationMs: 1 } }).names, [])
  })

  it("passes the type check of a project without TypeScript", () => {
    assert.deepStrictEqual(failing({ types: { exitCode: null, output: "", durationMs: 1 } }).names, [])
  })

  it("fails every check of a sandbox that cannot be reached", () => {
    const { checks, output, success } = unreachableDiagnosis("The sandbox is not running", 7)
    assert.isFalse(success)
    assert.strictEqual(output, "The sandbox is not running")
    assert.isTrue(checks.every(({ ok }) => !ok))
    assert.strictEqual(checks[0]?.durationMs, 7)
  })
})
