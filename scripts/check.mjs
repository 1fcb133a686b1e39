// Runs the static checks: types, lint, format, import rules, and whether openapi.json is up to date.
import { spawn } from "node:child_process"
import { join } from "node:path"

const bin = (name) => join("node_modules", ".bin", name)
const node = bin("node")

/** Type-checks a project incrementally. */
const types = (config) => {
  const known = join("node_modules", ".cache", "tsc", `${config.replaceAll("/", "-")}.tsbuildinfo`)
  return [bin("tsc"), "-p", config, "--incremental", "--tsBuildInfoFile", known]
}

const checks = {
  "types, domain": types("packages/domain"),
  "types, domain's tests": types("packages/domain/tsconfig.test.json"),
  "types, testkit": types("packages/testkit"),
  "types, adapters": types("packages/adapters"),
  "types, http": types("packages/http"),
  "types, cli": types("packages/cli"),
  "types, example next-route": types("examples/next-route"),
  "types, example hono": types("examples/hono"),
  "types, example plain-node": types("examples/plain-node"),
  "types, bench": types("bench"),
  "types, scripts": types("scripts"),
  "types, mutate": types("scripts/mutate"),
  mutators: [node, "--test", "scripts/mutate/mutators.test.ts"],
  lint: [bin("oxlint"), "--deny-warnings"],
  format: [bin("prettier"), "--check", "--log-level", "warn", "."],
  "import walls": [node, "scripts/test.mjs", "--project", "domain", "walls"],
  "openapi.json": [node, "packages/http/src/api/openapi-file.ts", "--check"],
  "docs/lifecycle.md": [node, "scripts/lifecycle-docs.ts", "--check"]
}

const run = ([command, ...args]) =>
  new Promise((resolve) => {
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], env: process.env })
    let output = ""
    child.stdout.on("data", (chunk) => (output += chunk))
    child.stderr.on("data", (chunk) => (output += chunk))
    child.on("close", (code) => resolve({ code, output }))
  })

let failed = 0
for (const [name, command] of Object.entries(checks)) {
  const { code, output } = await run(command)
  console.log(`${code === 0 ? "ok    " : "FAILED"} ${name}`)
  if (code !== 0) {
    failed++
    console.log(output)
  }
}
process.exit(failed === 0 ? 0 : 1)
