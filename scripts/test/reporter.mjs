/** A vitest reporter that writes the counts of a finished run to the file that CASTELLAN_TEST_REPORT names. */
import { writeFileSync } from "node:fs"

export default class {
  onInit(vitest) {
    this.projects = vitest.projects.map(({ name }) => name)
  }

  onTestRunEnd(modules, unhandledErrors, reason) {
    const counts = { passed: 0, failed: 0, skipped: 0, pending: 0 }
    const projects = Object.fromEntries(this.projects.map((name) => [name, 0]))
    for (const module of modules) {
      for (const test of module.children.allTests()) {
        const { state } = test.result()
        counts[state]++
        if (state === "passed") projects[module.project.name]++
      }
    }
    const report = {
      passed: counts.passed,
      // A test without a result has begun and not ended, or never begun.
      failed: counts.failed + counts.pending,
      skipped: counts.skipped,
      failedModules: modules.filter((module) => module.state() !== "passed" && module.state() !== "skipped").length,
      unhandledErrors: unhandledErrors.length,
      projects,
      reason
    }
    writeFileSync(process.env.CASTELLAN_TEST_REPORT, JSON.stringify(report))
  }
}
