#!/usr/bin/env node
// Plain JavaScript for any Node from 18 on: finds the Node that is pinned, and gives it the command line.
import { spawn } from "node:child_process"
import { existsSync } from "node:fs"
import { constants } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("../../..", import.meta.url))
const pinned = join(root, "node_modules", ".bin", "node")
const main = new URL("../src/emulators/main.ts", import.meta.url)

if (Number.parseInt(process.versions.node, 10) >= 24) {
  await import(main.href)
} else if (!existsSync(pinned)) {
  console.error(`castellan-emulate: not installed yet (run \`node scripts/install.mjs\` in ${root})`)
  process.exit(1)
} else {
  const child = spawn(pinned, [fileURLToPath(main), ...process.argv.slice(2)], { stdio: "inherit" })
  // Ctrl-C reaches the child by itself, from the terminal; what is sent to us alone is passed on.
  process.on("SIGINT", () => {})
  for (const signal of ["SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal))
  child.on("exit", (code, signal) => process.exit(code ?? 128 + (constants.signals[signal] ?? 0)))
}
