/** Writes openapi.json. With --check it fails if the file differs from the declaration. */
import { readFileSync, writeFileSync } from "node:fs"
import { document } from "./openapi.ts"

const file = new URL("../../openapi.json", import.meta.url)
const text = `${JSON.stringify(document, null, 2)}\n`

if (!process.argv.includes("--check")) {
  writeFileSync(file, text)
} else if (readFileSync(file, "utf8") !== text) {
  console.error("packages/http/openapi.json is out of date: run npm run openapi")
  process.exitCode = 1
}
