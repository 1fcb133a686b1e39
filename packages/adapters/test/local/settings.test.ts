import { settingsFromEnvironment as settings } from "../../src/local/Settings.ts"
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Effect } from "effect"

const withEnvironment = (environment: Record<string, string>) =>
  settings.pipe(Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromUnknown(environment)))

const refusal = (environment: Record<string, string>) =>
  Effect.map(Effect.flip(withEnvironment(environment)), ({ message }) => message)

describe("Settings of the local provider", () => {
  it.effect("use the public network by default", () =>
    Effect.gen(function* () {
      const { egressHosts, isolation, network } = yield* withEnvironment({})
      assert.deepStrictEqual(
        { isolation, network, hosts: egressHosts.size },
        { isolation: "namespaces", network: "public", hosts: 0 }
      )
    })
  )

  it.effect("include a network policy in JSON, and the addresses of egress hosts", () =>
    Effect.gen(function* () {
      const { egressHosts, network } = yield* withEnvironment({
        CASTELLAN_NETWORK: '{"allow":[{"host":"api.example.com","ports":[8443]}]}',
        CASTELLAN_EGRESS_HOSTS: "api.example.com=https://10.0.0.1:8443, api.example.com=http://10.0.0.1"
      })
      assert.deepStrictEqual(network as unknown, { allow: [{ host: "api.example.com", ports: [8443] }] })
      assert.deepStrictEqual(
        egressHosts.get("api.example.com")?.map(({ href }) => href),
        ["https://10.0.0.1:8443/", "http://10.0.0.1/"]
      )
    })
  )

  it.effect("accept the old name of the setting if it turns the network off", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* withEnvironment({ CASTELLAN_LOCAL_NETWORK: "none" })).network, "none")
      const both = yield* withEnvironment({ CASTELLAN_LOCAL_NETWORK: "none", CASTELLAN_NETWORK: "public" })
      assert.strictEqual(both.network, "public")
    })
  )

  it.effect("reject an invalid network, host or certificate, and name the setting", () =>
    Effect.gen(function* () {
      assert.include(yield* refusal({ CASTELLAN_LOCAL_NETWORK: "host" }), "CASTELLAN_NETWORK=public")
      for (const value of ["open", "{}", '{"allow":[{"host":"127.0.0.1"}]}', "{"])
        assert.include(yield* refusal({ CASTELLAN_NETWORK: value }), "CASTELLAN_NETWORK", value)
      for (const value of [
        "api.example.com",
        "api.example.com=ftp://x",
        "10.0.0.1=http://x",
        "*.x.com=http://x",
        "a.b=http://u:p@x"
      ])
        assert.include(yield* refusal({ CASTELLAN_EGRESS_HOSTS: value }), "CASTELLAN_EGRESS_HOSTS", value)
      assert.include(yield* refusal({ CASTELLAN_EGRESS_CA: "/no/such/file" }), "CASTELLAN_EGRESS_CA")
    })
  )
})
