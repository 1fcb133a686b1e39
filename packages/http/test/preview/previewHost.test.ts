import { Port } from "@castellan/domain/sandbox/Port.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { parseHost, parseHosts, type PreviewAddress, previewUrl } from "../../src/preview/PreviewHost.ts"
import { assert, describe, it } from "vitest"

const name = SandboxName.make("app-3fz9k2")
const port = Port.make(5173)
const app: PreviewAddress = { _tag: "App", target: { name, port } }
const base = new URL("https://Preview.example.com:8443")

describe("An app's URL", () => {
  it("is below localhost with the port that the server was reached at", () => {
    assert.strictEqual(previewUrl(undefined, "localhost:3000", name, port), "http://5173-app-3fz9k2.localhost:3000/")
    assert.strictEqual(previewUrl(undefined, "127.0.0.1:41233", name, port), "http://5173-app-3fz9k2.localhost:41233/")
    assert.strictEqual(previewUrl(undefined, "[::1]:3000", name, port), "http://5173-app-3fz9k2.localhost:3000/")
    assert.strictEqual(previewUrl(undefined, "localhost:80", name, port), "http://5173-app-3fz9k2.localhost/")
    for (const host of ["localhost", "[::1]", "castellan.example", "", undefined]) {
      assert.strictEqual(previewUrl(undefined, host, name, port), "http://5173-app-3fz9k2.localhost/")
    }
  })

  it("is below the configured base, however the server was reached", () => {
    for (const host of ["localhost:3000", undefined]) {
      assert.strictEqual(previewUrl(base, host, name, port), "https://5173-app-3fz9k2.preview.example.com:8443/")
    }
    assert.strictEqual(previewUrl(new URL("http://p.test./"), undefined, name, port), "http://5173-app-3fz9k2.p.test/")
  })

  it("names the app that it was made for", () => {
    for (const at of [undefined, base]) {
      assert.deepStrictEqual(parseHost(at, new URL(previewUrl(at, "localhost:3000", name, port)).host), app)
    }
  })
})

describe("A host name", () => {
  it("names an app whatever its port and case, also with a trailing dot", () => {
    for (const host of [
      "5173-app-3fz9k2.localhost",
      "5173-app-3fz9k2.localhost:1",
      "5173-app-3fz9k2.localhost:",
      "5173-APP-3fz9K2.LocalHost:3000",
      "5173-app-3fz9k2.localhost.",
      "5173-app-3fz9k2.localhost.:3000",
      " 5173-app-3fz9k2.localhost:3000 "
    ]) {
      assert.deepStrictEqual(parseHost(undefined, host), app, host)
    }
    assert.deepStrictEqual(parseHost(base, "5173-app-3fz9k2.PREVIEW.example.com."), app)
  })

  it("below the base that belongs to no app names none", () => {
    for (const label of [
      "app-3fz9k2",
      "5173",
      "5173-",
      "-app",
      "80-app",
      "1023-app",
      "65536-app",
      "99999-app",
      "517300-app",
      "5173-app_one",
      "5173--app",
      "5173-app.5173-app",
      "a.b",
      "",
      "5173-app%2e",
      "5173-app@5173-app",
      `5173-${"a".repeat(65)}`,
      "0x1435-app",
      "05173-app-3fz9k2",
      "api"
    ]) {
      assert.deepStrictEqual(parseHost(undefined, `${label}.localhost:3000`), { _tag: "NoApp" }, label)
      assert.deepStrictEqual(parseHost(base, `${label}.preview.example.com`), { _tag: "NoApp" }, label)
    }
    assert.deepStrictEqual(parseHost(undefined, "5173-app-3fz9k2.localhost.."), { _tag: "NoApp" })
  })

  it("outside of the base is not a preview's", () => {
    for (const host of [
      "localhost",
      "localhost:3000",
      "localhost.",
      "LOCALHOST:3000",
      "127.0.0.1:3000",
      "[::1]:3000",
      "",
      "notlocalhost",
      "5173-app-3fz9k2.notlocalhost",
      "5173-app-3fz9k2.localhost.example.com",
      "5173-app-3fz9k2.preview.example.com"
    ]) {
      assert.deepStrictEqual(parseHost(undefined, host), { _tag: "NotPreview" }, host)
    }
    for (const host of ["preview.example.com", "api.example.com", "5173-app-3fz9k2.localhost", "localhost:3000"]) {
      assert.deepStrictEqual(parseHost(base, host), { _tag: "NotPreview" }, host)
    }
  })

  it("that contradicts another host of the same request is refused if one of them is a preview's", () => {
    const hosts = ["5173-app-3fz9k2.localhost:3000", "localhost:3000", "5173-app-other.localhost", "x.localhost"]
    for (const one of hosts) {
      for (const other of hosts) {
        const expected = one === other ? parseHost(undefined, one) : { _tag: "NoApp" }
        assert.deepStrictEqual(parseHosts(undefined, [one, other]), expected, `${one} ${other}`)
      }
    }
    assert.deepStrictEqual(parseHosts(undefined, ["a.test", "127.0.0.1"]), { _tag: "NotPreview" })
    assert.deepStrictEqual(parseHosts(undefined, []), { _tag: "NotPreview" })
  })
})
