import { observabilityConfig, serverConfig } from "../../src/server/ServerConfig.ts"
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Effect, Redacted } from "effect"

const configOf = (environment: Record<string, string>) =>
  Effect.provide(serverConfig, ConfigProvider.layer(ConfigProvider.fromEnvRecord(environment)))

const refusal = (environment: Record<string, string>) =>
  Effect.map(Effect.flip(configOf(environment)), ({ message }) => message)

const provider = { CASTELLAN_JWT_ISSUER: "https://login.example", CASTELLAN_JWT_AUDIENCE: "castellan" }

describe("The configuration of access", () => {
  it.effect("lets members act for their peers and accepts no tokens if nothing is set", () =>
    Effect.gen(function* () {
      for (const environment of [{}, { CASTELLAN_ORG_ACCESS: "", CASTELLAN_JWT_ISSUER: " " }]) {
        const { access, tokens } = yield* configOf(environment)
        assert.deepStrictEqual([access, tokens], ["peers", undefined])
      }
    })
  )

  it.effect("reads the identity provider whose tokens are accepted", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual((yield* configOf(provider)).tokens, {
        issuer: "https://login.example",
        audience: "castellan"
      })
      const more = { CASTELLAN_JWT_JWKS_URL: "https://keys.example/set", CASTELLAN_JWT_ACCOUNT_CLAIM: "account" }
      assert.deepStrictEqual((yield* configOf({ ...provider, ...more })).tokens, {
        issuer: "https://login.example",
        audience: "castellan",
        jwksUrl: "https://keys.example/set",
        accountClaim: "account"
      })
    })
  )

  it.effect("is refused with a sentence that names the invalid variable", () =>
    Effect.gen(function* () {
      assert.strictEqual(
        yield* refusal({ CASTELLAN_ORG_ACCESS: "all" }),
        'CASTELLAN_ORG_ACCESS is "all"; it must be "peers" or "admins"'
      )
      assert.strictEqual(
        yield* refusal({ ...provider, CASTELLAN_JWT_ISSUER: "login.example" }),
        'CASTELLAN_JWT_ISSUER is "login.example"; it must be an http or https URL'
      )
      assert.strictEqual(
        yield* refusal({ ...provider, CASTELLAN_JWT_JWKS_URL: "file:///keys" }),
        'CASTELLAN_JWT_JWKS_URL is "file:///keys"; it must be an http or https URL'
      )
      assert.strictEqual(
        yield* refusal({ ...provider, CASTELLAN_JWT_AUDIENCE: "" }),
        "CASTELLAN_JWT_AUDIENCE must be set if CASTELLAN_JWT_ISSUER is"
      )
      assert.strictEqual(
        yield* refusal({ CASTELLAN_JWT_AUDIENCE: "castellan" }),
        "CASTELLAN_JWT_ISSUER must be set if CASTELLAN_JWT_AUDIENCE or CASTELLAN_JWT_JWKS_URL is"
      )
    })
  )
})

describe("CASTELLAN_PREVIEW_URL", () => {
  it.effect("is optional, and a blank value counts as not set", () =>
    Effect.gen(function* () {
      for (const environment of [{}, { CASTELLAN_PREVIEW_URL: " " }]) {
        assert.isUndefined((yield* configOf(environment)).previewUrl)
      }
    })
  )

  it.effect("accepts a host with or without a port", () =>
    Effect.gen(function* () {
      for (const [given, read] of [
        ["https://preview.example.com", "https://preview.example.com/"],
        [" http://Preview.example.com:8080/ ", "http://preview.example.com:8080/"],
        ["http://localhost:3000", "http://localhost:3000/"]
      ] as const) {
        assert.strictEqual((yield* configOf({ CASTELLAN_PREVIEW_URL: given })).previewUrl?.href, read)
      }
    })
  )

  it.effect("is refused if apps can't have host names below it", () =>
    Effect.gen(function* () {
      for (const given of [
        "preview.example.com",
        "ftp://preview.example.com",
        "https://preview.example.com/apps",
        "https://preview.example.com/?a=b",
        "https://preview.example.com/#a",
        "http://127.0.0.1:3000",
        "http://[::1]:3000"
      ]) {
        assert.strictEqual(
          yield* refusal({ CASTELLAN_PREVIEW_URL: given }),
          `CASTELLAN_PREVIEW_URL is "${given}"; it must be an http or https URL of a host name, without a path or query`
        )
      }
      const withPassword = yield* refusal({ CASTELLAN_PREVIEW_URL: "https://user:hunter2@preview.example.com" })
      assert.strictEqual(withPassword, "CASTELLAN_PREVIEW_URL must not contain a user or a password")
    })
  )
})

describe("The configuration of logs and telemetry", () => {
  const observability = (environment: Record<string, string>) =>
    Effect.provide(observabilityConfig, ConfigProvider.layer(ConfigProvider.fromEnvRecord(environment)))

  it.effect("defaults to readable log lines and no collector", () =>
    Effect.gen(function* () {
      const { format, level, telemetry } = yield* observability({
        OTEL_EXPORTER_OTLP_ENDPOINT: "",
        OTEL_SERVICE_NAME: "x"
      })
      assert.deepStrictEqual([format, level, telemetry], ["readable", "Info", undefined])
    })
  )

  it.effect("reads the collector, its headers and the resource attributes", () =>
    Effect.gen(function* () {
      const { telemetry } = yield* observability({
        OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:4318",
        OTEL_EXPORTER_OTLP_HEADERS: "authorization=Bearer%20key, x-team = a",
        OTEL_RESOURCE_ATTRIBUTES: "service.name=here,deployment.environment=test"
      })
      assert.deepStrictEqual(Redacted.value(telemetry!.headers), { authorization: "Bearer key", "x-team": "a" })
      assert.deepStrictEqual(
        [telemetry?.serviceName, telemetry?.attributes["deployment.environment"]],
        ["here", "test"]
      )
    })
  )

  it.effect("is refused with a sentence that names the invalid variable", () =>
    Effect.gen(function* () {
      const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:4318" }
      for (const [wrong, name] of [
        [{ CASTELLAN_LOG: "xml" }, "CASTELLAN_LOG"],
        [{ CASTELLAN_LOG_LEVEL: "loud" }, "CASTELLAN_LOG_LEVEL"],
        [{ OTEL_EXPORTER_OTLP_ENDPOINT: "collector:4318" }, "OTEL_EXPORTER_OTLP_ENDPOINT"],
        [{ ...endpoint, OTEL_EXPORTER_OTLP_HEADERS: "key" }, "OTEL_EXPORTER_OTLP_HEADERS"],
        [{ ...endpoint, OTEL_RESOURCE_ATTRIBUTES: "a=%" }, "OTEL_RESOURCE_ATTRIBUTES"]
      ] as ReadonlyArray<readonly [Record<string, string>, string]>) {
        assert.include((yield* Effect.flip(observability(wrong))).message, `${name} `)
      }
      assert.include(yield* refusal({ CASTELLAN_SHUTDOWN_SECONDS: "0" }), "a whole number from 1 to 300")
    })
  )
})
