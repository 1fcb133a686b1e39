import { availableParallelism } from "node:os"
import { defineConfig } from "vitest/config"

/** Besides what `npm test` runs: tests that take long (`npm run test:soak`), and attacks (`npm run test:isolation`). */
const soak = "test/**/*.soak.test.ts"
const isolation = "test/**/*.isolation.test.ts"

const project = (name: string, more: object) => ({
  extends: true as const,
  test: { name, root: `packages/${name}`, ...more }
})

export const configOf = (files: { readonly include: ReadonlyArray<string>; readonly exclude: ReadonlyArray<string> }) =>
  defineConfig({
    test: {
      // A bound for tests that hang. It says nothing about speed: on a busy machine processes take many times as long.
      testTimeout: 240_000,
      hookTimeout: 240_000,
      // Durations are printed for those who look for them (`--slowTestThreshold`), not on every run.
      slowTestThreshold: 60_000,
      // Many tests wait for processes and for a database: fewer workers would leave cores idle.
      maxWorkers: Math.max(3, availableParallelism() - 1),
      // A process for each file would spend a third of the whole time on loading the same modules again.
      isolate: false,
      // What a test logs is read where it fails.
      silent: "passed-only",
      projects: [
        project("domain", files),
        project("testkit", files),
        project("adapters", { ...files, globalSetup: ["test/embeddedPostgres.ts"] }),
        project("http", { ...files, globalSetup: ["test/migratedDatabase.ts"] }),
        project("cli", { ...files, globalSetup: ["../http/test/migratedDatabase.ts"] }),
        project("scripts", { ...files, root: "scripts" }),
        project("examples", { ...files, root: "examples", include: files.include.map((path) => `*/${path}`) })
      ]
    }
  })

export default configOf({ include: ["test/**/*.test.ts"], exclude: [soak, isolation] })
