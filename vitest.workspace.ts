import { defineConfig } from "vitest/config"

const project = (name: string, more: object = {}) => ({
  extends: true as const,
  test: { name, root: `packages/${name}`, include: ["test/**/*.test.ts"], ...more }
})

export default defineConfig({
  test: {
    testTimeout: 60_000,
    hookTimeout: 60_000,
    projects: [
      project("domain"),
      project("testkit"),
      project("adapters", { globalSetup: ["test/embeddedPostgres.ts"] }),
      project("http")
    ]
  }
})
