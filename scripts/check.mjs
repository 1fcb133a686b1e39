// Types, lint, format, import walls, and openapi.json in step: everything that is looked at and not run.
import { spawn } from "node:child_process"
import { join } from "node:path"

const bin = (name) => join("node_modules", ".bin", name)
const node = bin("node")

const checks = {
  "types, domain": [bin("tsc"), "-p", "packages/domain"],
  "types, domain's tests": [bin("tsc"), "-p", "packages/domain/tsconfig.test.json"],
  "types, testkit": [bin("tsc"), "-p", "packages/testkit"],
  "types, adapters": [bin("tsc"), "-p", "packages/adapters"],
  "types, http": [bin("tsc"), "-p", "packages/http"],
  "types, example next-route": [bin("tsc"), "-p", "examples/next-route"],
  "types, example hono": [bin("tsc"), "-p", "examples/hono"],
  "types, example plain-node": [bin("tsc"), "-p", "examples/plain-node"],
  "types, bench": [bin("tsc"), "-p", "bench"],
  lint: [bin("oxlint"), "--deny-warnings"],
  format: [bin("prettier"), "--check", "--log-level", "warn", "."],
  "import walls": [bin("vitest"), "--config", "vitest.workspace.ts", "run", "--project", "domain", "walls"],
  "openapi.json": [node, "packages/http/src/openapi-file.ts", "--check"]
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
