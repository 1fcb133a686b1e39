/** Runs Vercel's emulator as a command, and unchanged programs against it. */
import { assert, describe, it } from "@effect/vitest"
import { execFile, spawn } from "node:child_process"
import { once } from "node:events"
import { createServer, type AddressInfo } from "node:net"
import { fileURLToPath } from "node:url"
import { setTimeout as later } from "node:timers/promises"
import { promisify } from "node:util"

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url))
const castellan = at("../bin/castellan.mjs")

/** Runs a Node program to its end with only the given environment. */
const run = (args: ReadonlyArray<string>, env: Record<string, string> = {}) =>
  promisify(execFile)(process.execPath, [...args], { env })

/** Starts the emulator and returns the variables that it prints. */
const emulating = async () => {
  const args = [castellan, "emulate", "vercel", "--port", "0", "--provider", "memory"]
  const child = spawn(process.execPath, args, { env: {} })
  let printed = ""
  for await (const piece of child.stdout) if (/VERCEL_OIDC_TOKEN=.*\n/.test((printed += String(piece)))) break
  const variables = [...printed.matchAll(/^export (\w+)="(.*)"$/gm)].map(([, name, value]) => [name!, value!] as const)
  return { child, variables: Object.fromEntries(variables) }
}

const refused = (...args: ReadonlyArray<string>) =>
  run([castellan, "emulate", "vercel", ...args]).then(
    () => assert.fail("It did not fail"),
    ({ code, stderr }: { readonly code: number; readonly stderr: string }) => ({ code, stderr })
  )

describe("castellan emulate vercel", () => {
  it("serves an unchanged program that runs with the printed variables", async () => {
    const { child, variables } = await emulating()
    try {
      const { stdout } = await run([at("vercelProgram.mjs")], variables)
      assert.deepStrictEqual(JSON.parse(stdout), ["of-a-program", "hello\n", "servedGET /path?query HTTP/1.1"])
    } finally {
      child.kill("SIGTERM")
    }
    assert.deepStrictEqual(await once(child, "exit"), [130, null])
  })

  it("keeps serving when nobody reads its output", async () => {
    const server = createServer().listen(0, "127.0.0.1")
    await once(server, "listening")
    const { port } = server.address() as AddressInfo
    server.close()
    const args = [castellan, "emulate", "vercel", "--port", String(port), "--provider", "memory"]
    const child = spawn(process.execPath, args, { env: {} })
    const ended = once(child, "exit")
    for (const pipe of [child.stdout, child.stderr]) pipe.destroy()
    const answers = () =>
      fetch(`http://127.0.0.1:${port}/api`).then(
        () => true,
        () => false
      )
    while (child.exitCode === null && !(await answers())) await later(50)
    // It prints after it listens, so it has printed by the time of the last response.
    for (const _ of [1, 2, 3, 4, 5]) assert.isTrue(await answers())
    child.kill("SIGTERM")
    assert.deepStrictEqual(await ended, [130, null])
  })

  it("reports an occupied and an invalid port", async () => {
    const server = createServer().listen(0, "127.0.0.1")
    await once(server, "listening")
    const { port } = server.address() as AddressInfo
    const taken = await refused("--provider", "memory", "--port", String(port))
    server.close()
    assert.deepStrictEqual(taken, {
      code: 2,
      stderr: `castellan: can't listen on port ${port}: listen EADDRINUSE: address already in use 127.0.0.1:${port}\n`
    })
    assert.deepInclude(await refused("--port", "70000"), { code: 2 })
  })
})
