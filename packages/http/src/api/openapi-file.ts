/** Writes openapi.json, or with --check tells whether it is in step with the code. */
import { readFileSync, writeFileSync } from "node:fs"
import { document } from "./openapi.ts"

const file = new URL("../../openapi.json", import.meta.url)
const text = `${JSON.stringify(document, null, 2)}\n`

if (!process.argv.includes("--check")) {
  writeFileSync(file, text)
} else if (readFileSync(file, "utf8") !== text) {
  console.error("packages/http/openapi.json is not in step with the code: npm run openapi")
  process.exitCode = 1
}
