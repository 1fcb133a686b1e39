import { assert, describe, it } from "@effect/vitest"
import { allowsName, decideConnection, decideRequest } from "@castellan/domain/network/decide.ts"
import { NetworkPolicy } from "@castellan/domain/network/NetworkPolicy.ts"
import { Schema } from "effect"

const policy = Schema.decodeUnknownSync(NetworkPolicy)

const github = policy({
  allow: [
    {
      host: "github.com",
      paths: ["/ada/engine.git/"],
      headers: { authorization: { secret: "GIT", prefix: "Basic " } }
    },
    { host: "api.github.com", paths: ["/repos/ada/engine/", "/repos/ada/engine"], methods: ["GET", "POST"] },
    { host: "*.npmjs.org" },
    { host: "db.example.com", ports: [5432] }
  ]
})

const connection = (host: string, port: number, of = github) => {
  const decision = decideConnection(of, { host, port })
  return decision._tag === "Allow" ? decision.carriage : decision.reason
}

const request = (host: string, method: string, path: string, of = github) => {
  const decision = decideRequest(of, { host, port: 443, method, path, isTls: true })
  return decision._tag === "Allow" ? Object.keys(decision.headers).join() || "allowed" : decision.reason
}

describe("Network policies", () => {
  it("allows no connection and resolves no name without a network", () => {
    assert.strictEqual(connection("example.com", 443, "none"), "no_network")
    assert.isFalse(allowsName("none", "example.com"))
  })

  it("allows every host in the public network, without reading the bytes", () => {
    assert.strictEqual(connection("example.com", 8443, "public"), "opaque")
    assert.isTrue(allowsName("public", "example.com"))
  })

  it("allows only the hosts and ports of an allow-list", () => {
    assert.strictEqual(connection("registry.npmjs.org", 443), "named")
    assert.strictEqual(connection("db.example.com", 5432), "named")
    assert.strictEqual(connection("db.example.com", 443), "port_not_allowed")
    assert.strictEqual(connection("registry.npmjs.org", 22), "port_not_allowed")
    assert.strictEqual(connection("example.com", 443), "host_not_allowed")
    assert.isFalse(allowsName(github, "example.com"))
  })

  it("matches a wildcard with names below it, and not with the name itself or with a longer label", () => {
    assert.strictEqual(connection("a.b.npmjs.org", 443), "named")
    assert.strictEqual(connection("npmjs.org", 443), "host_not_allowed")
    assert.strictEqual(connection("evilnpmjs.org", 443), "host_not_allowed")
    assert.strictEqual(connection("registry.npmjs.org.evil.com", 443), "host_not_allowed")
  })

  it("has the gateway read the requests of a host with paths, methods or headers", () => {
    assert.strictEqual(connection("github.com", 443), "requests")
    assert.strictEqual(connection("api.github.com", 443), "requests")
  })

  it("allows the paths and methods of a rule and sets its headers", () => {
    assert.strictEqual(request("github.com", "GET", "/ada/engine.git/info/refs"), "authorization")
    assert.strictEqual(request("github.com", "GET", "/ada/other.git/info/refs"), "path_not_allowed")
    assert.strictEqual(request("github.com", "GET", "/ada/engine.git"), "path_not_allowed")
    assert.strictEqual(request("api.github.com", "GET", "/repos/ada/engine"), "allowed")
    assert.strictEqual(request("api.github.com", "DELETE", "/repos/ada/engine"), "method_not_allowed")
  })

  it("refuses paths that servers may interpret differently than the rule", () => {
    for (const path of [
      "/ada/engine.git/../other.git/info/refs",
      "/ada/engine.git/%2e%2e/other.git/info/refs",
      "/ada/engine.git/..%2fother.git/info/refs",
      "/ada/engine.git/..\\other.git",
      "/ada/engine.git/%2E./x",
      "/ada/engine.git//x",
      "/ada/engine.git/%zz",
      "/ada/engine.git/..;/other.git/info/refs",
      "/ada/engine.git/.;x/y",
      "/ada/engine.git/%2e%2e;x/other.git",
      "/ada/engine.git/%252e%252e/other.git",
      "/ada/engine.git/..%252fother.git",
      "/ada/engine.git/%c0%ae%c0%ae/other.git",
      "ada/engine.git/"
    ])
      assert.strictEqual(request("github.com", "GET", path), "path_not_allowed", path)
  })

  it("applies the rules of a host even if all other public hosts are allowed", () => {
    const open = policy({ allow: [{ host: "api.example.com", paths: ["/v1/"] }], default: "public" })
    assert.strictEqual(connection("example.com", 443, open), "opaque")
    assert.strictEqual(connection("api.example.com", 443, open), "requests")
    assert.strictEqual(connection("api.example.com", 22, open), "port_not_allowed")
    assert.strictEqual(request("api.example.com", "GET", "/v2/", open), "path_not_allowed")
  })

  it("sends the headers of a rule without TLS only where the rule names port 80", () => {
    const keyed = (ports?: ReadonlyArray<number>) =>
      policy({
        allow: [{ host: "api.example.com", headers: { "x-key": { secret: "KEY" } }, ...(ports ? { ports } : {}) }]
      })
    const ask = (of: typeof github, port: number, isTls: boolean) => {
      const decision = decideRequest(of, { host: "api.example.com", port, method: "GET", path: "/", isTls })
      return decision._tag === "Allow" ? Object.keys(decision.headers).join() : decision.reason
    }
    assert.strictEqual(connection("api.example.com", 80, keyed()), "port_not_allowed")
    assert.strictEqual(ask(keyed(), 443, true), "x-key")
    assert.strictEqual(ask(keyed(), 443, false), "tls_required")
    assert.strictEqual(ask(keyed([8443]), 8443, false), "tls_required")
    assert.strictEqual(ask(keyed([80]), 80, false), "x-key")
  })

  it("refuses TRACE where it would answer with the headers of a rule", () => {
    assert.strictEqual(request("github.com", "TRACE", "/ada/engine.git/x"), "method_not_allowed")
    assert.strictEqual(request("registry.npmjs.org", "TRACE", "/"), "allowed")
  })

  it("takes the value of a header from the first rule that sets it", () => {
    const twice = policy({
      allow: [
        { host: "api.example.com", paths: ["/v1/"], headers: { "x-key": "first" } },
        { host: "*.example.com", headers: { "x-key": "second", "x-other": "second" } }
      ]
    })
    const asked = { host: "api.example.com", port: 443, method: "GET", path: "/v1/x", isTls: true }
    const decision = decideRequest(twice, asked)
    assert.deepStrictEqual(decision._tag === "Allow" && decision.headers, { "x-key": "first", "x-other": "second" })
  })

  it("refuses rules with addresses, upper case, reserved headers, or too many entries", () => {
    const rules: ReadonlyArray<unknown> = [
      { host: "10.0.0.1" },
      { host: "127.1" },
      { host: "2130706433" },
      { host: "0x7f.1" },
      { host: "[::1]" },
      { host: "localhost" },
      { host: "Example.com" },
      { host: "example.com." },
      { host: "*" },
      { host: "a.*.com" },
      { host: "-a.example.com" },
      { host: "example.com", ports: [] },
      { host: "example.com", ports: [0] },
      { host: "example.com", ports: [1.5] },
      { host: "example.com", paths: ["v1/"] },
      { host: "example.com", paths: ["/v1/../"] },
      { host: "example.com", paths: ["/v1?x"] },
      { host: "example.com", methods: ["get"] },
      { host: "example.com", headers: { host: "evil.com" } },
      { host: "example.com", headers: { Authorization: "x" } },
      { host: "example.com", headers: { "x-key": "a\r\nb: c" } },
      { host: "example.com", headers: { "x-key": { secret: "1" } } }
    ]
    for (const rule of rules) assert.throws(() => policy({ allow: [rule] }), undefined, undefined, JSON.stringify(rule))
    assert.throws(() => policy({ allow: Array.from({ length: 101 }, (_, n) => ({ host: `a${n}.example.com` })) }))
    assert.throws(() => policy("private"))
  })
})
