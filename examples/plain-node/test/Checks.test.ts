/** A service's own code against the fakes: nothing is started, nothing is left behind. */
import { SandboxProvider, SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { make, type Promises } from "castellan/embedding/promises.ts"
import { asSteps, Step } from "@castellan/testkit/Program.ts"
import * as World from "@castellan/testkit/World.ts"
import { Effect, Layer, Redacted } from "effect"
import { assert, describe, it } from "vitest"
import { check } from "../Checks.ts"

const over = async <A>(ports: typeof World.layer, use: (castellan: Promises, account: string) => Promise<A>) => {
  const castellan = await make(ports, { secret: Redacted.make(new Uint8Array(32)) })
  try {
    return await use(castellan, (await castellan.createAccount()).id)
  } finally {
    await castellan.dispose()
  }
}

/** The fakes, with a provider that has no room. */
const fullHouse = Layer.effect(
  SandboxProvider,
  Effect.map(SandboxProvider, (provider) => ({
    ...provider,
    create: () => Effect.fail(new SandboxUnavailable({ operation: "create", retryable: true }))
  }))
).pipe(Layer.provideMerge(World.layer))

/** The fakes have few programs; this one does what its steps say. */
const print = asSteps(Step.PrintFile({ path: "plants.txt" }))

describe("A check", () => {
  it("passes where its program does, tells what it printed, and leaves no sandbox behind", () =>
    over(World.layer, async (castellan, account) => {
      const outcome = await check(castellan, account, { "plants.txt": "watered" }, [print.command, ...print.args])
      assert.deepStrictEqual(outcome, { verdict: "passed", output: "watered" })
      const { sandboxes } = await castellan.as(account)
      const { rows } = await sandboxes.list({ limit: 10, cursor: null })
      assert.deepStrictEqual(
        rows.map(({ status }) => status),
        ["stopped"]
      )
    }))

  it("fails where its program does", () =>
    over(World.layer, async (castellan, account) => {
      assert.strictEqual((await check(castellan, account, {}, ["false"])).verdict, "failed")
    }))

  it("says so where there is no sandbox to be had", () =>
    over(fullHouse, async (castellan, account) => {
      assert.deepStrictEqual(await check(castellan, account, {}, ["true"]), { verdict: "no sandbox", output: "" })
    }))
})
