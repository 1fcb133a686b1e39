#!/usr/bin/env node
// Plain JavaScript for any Node from 18 on: finds the Node that is pinned, and gives it the command line.
import { spawn } from "node:child_process"
import { existsSync } from "node:fs"
import * as module from "node:module"
import { constants } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("../../..", import.meta.url))
const pinned = join(root, "node_modules", ".bin", "node")
const compileCache = join(root, "node_modules", ".cache", "node")

const args = process.argv.slice(2)
const isServer = args.length === 1 && args[0] === "serve"
const main = new URL(isServer ? "../../http/src/server/main.ts" : "../src/main.ts", import.meta.url)

if (!existsSync(pinned)) {
  console.error(`castellan: not installed yet (run \`node scripts/install.cjs\` in ${root})`)
  process.exit(1)
}

// The link in node_modules/.bin comes here with the pinned Node already; it runs TypeScript as it is.
if (Number.parseInt(process.versions.node, 10) >= 24) {
  module.enableCompileCache(process.env.NODE_COMPILE_CACHE ?? compileCache)
  await import(main.href)
} else {
  const child = spawn(pinned, [fileURLToPath(main), ...args], {
    stdio: "inherit",
    env: { NODE_COMPILE_CACHE: compileCache, ...process.env }
  })
  // Ctrl-C reaches the child by itself, from the terminal; what is sent to us alone is passed on.
  process.on("SIGINT", () => {})
  for (const signal of ["SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal))
  child.on("exit", (code, signal) => process.exit(code ?? 128 + (constants.signals[signal] ?? 0)))
  child.on("error", (error) => {
    console.error(`castellan: ${pinned} can't be run (${error.code})`)
    process.exit(1)
  })
}
