// Starts the emulator from the installed packages and uses it through Vercel's SDK.
import assert from "node:assert/strict"
import { spawn, spawnSync } from "node:child_process"

const castellan = "node_modules/castellan/bin/castellan.mjs"
const args = [castellan, "emulate", "vercel", "--port", "0", "--provider", "memory"]
const emulator = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] })
let printed = ""
for await (const piece of emulator.stdout) if (/VERCEL_OIDC_TOKEN=.*\n/.test((printed += String(piece)))) break
const variables = Object.fromEntries(
  [...printed.matchAll(/^export (\w+)="(.*)"$/gm)].map(([, name, value]) => [name, value])
)

const program = `
import { Sandbox } from "@vercel/sandbox"
const sandbox = await Sandbox.create({ name: "an-outsiders" })
const done = await sandbox.runCommand("echo", ["hello"])
console.log(sandbox.name, await done.stdout())
`
const asked = ["--input-type=module", "--eval", program]
const { status, stdout } = spawnSync(process.execPath, asked, { env: variables, encoding: "utf8" })
emulator.kill("SIGTERM")
assert.deepEqual([status, stdout], [0, "an-outsiders hello\n\n"])
