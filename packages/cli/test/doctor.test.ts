import { assert, describe, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"

const main = fileURLToPath(new URL("../src/main.ts", import.meta.url))

/** The output of the command on a host with these settings. */
const doctor = async (settings: Record<string, string>, ...args: ReadonlyArray<string>) => {
  const { stdout } = await promisify(execFile)(process.execPath, [main, "doctor", ...args], {
    env: { ...process.env, ...settings }
  })
  return stdout
}

describe("castellan doctor", () => {
  it("reports as JSON which protections hold, and why others do not", async () => {
    const { isolation, protections } = JSON.parse(await doctor({}, "--json")) as {
      readonly isolation: string
      readonly protections: ReadonlyArray<{ readonly name: string; readonly holds: boolean; readonly reason?: string }>
    }
    assert.strictEqual(isolation, "namespaces")
    const named = new Map(protections.map((protection) => [protection.name, protection]))
    for (const name of ["locked_mounts", "no_new_privileges", "system_call_filter", "own_keyring"]) {
      assert.isTrue(named.get(name)?.holds, name)
    }
    assert.isTrue(named.get("own_network")?.holds)
    assert.isFalse(named.get("memory_limit")?.holds)
    assert.isString(named.get("memory_limit")?.reason)
  })

  it("reports that isolation is off", async () => {
    assert.strictEqual(await doctor({ CASTELLAN_LOCAL_ISOLATION: "none" }), "isolation: none\n")
  })
})
