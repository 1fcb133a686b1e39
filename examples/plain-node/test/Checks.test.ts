/** Tests the service's code over the fakes: no processes, no files. */
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

/** The fakes with a provider that cannot create a sandbox at the moment. */
const unavailableProvider = Layer.effect(
  SandboxProvider,
  Effect.map(SandboxProvider, (provider) => ({
    ...provider,
    create: () => Effect.fail(new SandboxUnavailable({ operation: "create", retryable: true }))
  }))
).pipe(Layer.provideMerge(World.layer))

/** A program of the fakes that executes the given steps. */
const print = asSteps(Step.PrintFile({ path: "plants.txt" }))

describe("A check", () => {
  it("passes if its program succeeds, returns the output and removes its sandbox", () =>
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

  it("fails if its program fails", () =>
    over(World.layer, async (castellan, account) => {
      assert.strictEqual((await check(castellan, account, {}, ["false"])).verdict, "failed")
    }))

  it("reports that no sandbox is available", () =>
    over(unavailableProvider, async (castellan, account) => {
      assert.deepStrictEqual(await check(castellan, account, {}, ["true"]), { verdict: "no sandbox", output: "" })
    }))
})
