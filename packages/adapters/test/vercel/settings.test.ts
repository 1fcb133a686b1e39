import { fromConfig } from "@castellan/adapters/vercel/Options.ts"
import * as VercelSandbox from "@castellan/adapters/vercel/VercelSandbox.ts"
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Effect, Layer, Redacted } from "effect"
import { credentials } from "./emulatedVercel.ts"

const complete = { VERCEL_TOKEN: "hunter2-token", VERCEL_TEAM_ID: "team_1", VERCEL_PROJECT_ID: "prj_1" }

const reading = (environment: Record<string, string>) =>
  Effect.provide(fromConfig, ConfigProvider.layer(ConfigProvider.fromEnvRecord(environment)))

const refusal = (environment: Record<string, string>) =>
  Effect.map(Effect.flip(reading(environment)), ({ message }) => message)

describe("The configuration of the Vercel adapter", () => {
  it.effect("reads the credentials and the options from the environment", () =>
    Effect.gen(function* () {
      const { credentials, ...least } = yield* reading(complete)
      const { projectId, teamId, token } = yield* credentials
      assert.deepStrictEqual([Redacted.value(token), teamId, projectId], ["hunter2-token", "team_1", "prj_1"])
      assert.deepStrictEqual(least, {})
      const { credentials: _, ...most } = yield* reading({
        ...complete,
        CASTELLAN_VERCEL_PLAN: "pro",
        CASTELLAN_VERCEL_VCPUS: "8",
        CASTELLAN_VERCEL_REGION: "fra1",
        CASTELLAN_VERCEL_IMAGE: "vercel/sandbox/node:24",
        CASTELLAN_VERCEL_NETWORK: "deny",
        CASTELLAN_VERCEL_MAX_MINUTES: "1440",
        CASTELLAN_VERCEL_KEPT_DAYS: "0",
        CASTELLAN_NPM_REGISTRY: "https://packages.example/npm/"
      })
      assert.deepStrictEqual(most, {
        plan: "pro",
        vcpus: 8,
        region: "fra1",
        image: "vercel/sandbox/node:24",
        network: "deny",
        maxMinutes: 1440,
        keptDays: 0,
        registryHost: "packages.example"
      })
    })
  )

  it.effect("rejects missing and invalid variables by name, without repeating the token", () =>
    Effect.gen(function* () {
      for (const name of Object.keys(complete)) {
        assert.match(yield* refusal({ ...complete, [name]: "" }), new RegExp(`^${name} is not set; it must be `))
        const wrong = yield* refusal({ ...complete, [name]: "hunter2 3" })
        assert.match(wrong, new RegExp(`^${name} `))
        if (name === "VERCEL_TOKEN") assert.notInclude(wrong, "hunter2")
      }
      assert.strictEqual(
        yield* refusal({ ...complete, CASTELLAN_VERCEL_NETWORK: "deny" }),
        'CASTELLAN_NPM_REGISTRY must be set if CASTELLAN_VERCEL_NETWORK is "deny", because web apps need their packages'
      )
      const sentences = {
        CASTELLAN_VERCEL_PLAN: ["free", '"hobby" or "pro" or "enterprise"'],
        CASTELLAN_VERCEL_VCPUS: ["6", "on the hobby plan it must be 1 or even, at most 4"],
        CASTELLAN_VERCEL_REGION: ["Frankfurt", "a Vercel region such as iad1 or fra1"],
        CASTELLAN_VERCEL_NETWORK: ["all", '"allow" or "deny"'],
        CASTELLAN_VERCEL_MAX_MINUTES: ["60", "on the hobby plan it must be a whole number from 5 to 45"],
        CASTELLAN_VERCEL_KEPT_DAYS: ["4000", "a whole number of days from 0 (for ever) to 3650"],
        CASTELLAN_NPM_REGISTRY: ["npm", "an http or https URL"]
      }
      for (const [name, [value, sentence]] of Object.entries(sentences)) {
        const message = yield* refusal({ ...complete, [name]: value! })
        assert.include(message, name)
        assert.include(message, sentence!)
      }
      assert.match(yield* refusal({ ...complete, CASTELLAN_VERCEL_VCPUS: "3" }), /^CASTELLAN_VERCEL_VCPUS is 3; /)
      assert.match(yield* refusal({ ...complete, CASTELLAN_VERCEL_VCPUS: "two" }), /^CASTELLAN_VERCEL_VCPUS is "two"; /)
    })
  )

  it.effect("is checked against the plan by the layer too", () =>
    Effect.gen(function* () {
      const layer = VercelSandbox.layer({ credentials: Effect.succeed(credentials), vcpus: 8 })
      const { message } = yield* Effect.flip(Effect.scoped(Layer.build(layer)))
      assert.strictEqual(message, "vcpus is 8; on the hobby plan it must be 1 or even, at most 4")
    })
  )
})
