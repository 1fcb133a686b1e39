/** Vercel's emulator as a program, and programs that know nothing of it. */
import { assert, describe, it } from "@effect/vitest"
import { execFile, spawn } from "node:child_process"
import { once } from "node:events"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url))
const program = at("../../bin/castellan-emulate.mjs")

/** Runs a program of Node to its end, with no environment but that. */
const run = (args: ReadonlyArray<string>, env: Record<string, string> = {}) =>
  promisify(execFile)(process.execPath, [...args], { env })

/** The emulator, and the variables it prints. */
const emulating = async () => {
  const child = spawn(process.execPath, [program, "vercel", "--port", "0", "--provider", "memory"], { env: {} })
  let printed = ""
  for await (const piece of child.stdout) if (/VERCEL_OIDC_TOKEN=.*\n/.test((printed += String(piece)))) break
  const variables = [...printed.matchAll(/^export (\w+)="(.*)"$/gm)].map(([, name, value]) => [name!, value!] as const)
  return { child, variables: Object.fromEntries(variables) }
}

describe("Vercel's emulator, as a program", () => {
  it("is what an unchanged program speaks to that is run with what it prints", async () => {
    const { child, variables } = await emulating()
    const { stdout } = await run([at("vercelProgram.mjs")], variables)
    assert.deepStrictEqual(JSON.parse(stdout), ["of-a-program", "hello\n", "servedGET /path?query HTTP/1.1"])
    child.kill("SIGTERM")
    assert.deepStrictEqual(await once(child, "exit"), [0, null])
  })

  it("says what it can't do", async () => {
    const failed = await run([program, "vercel", "--prot", "1"]).then(
      () => assert.fail("It did not fail"),
      (error: { readonly code: number; readonly stderr: string }) => error
    )
    assert.strictEqual(failed.code, 1)
    assert.match(failed.stderr, /^castellan-emulate: Unknown option '--prot'[^]*usage: castellan-emulate vercel/)
  })
})
