/** Programs in a local sandbox that know nothing of a gateway, and a small internet on the loopback of this host. */
import * as Certificates from "../../../src/network/Certificates.ts"
import { NetworkPolicy } from "@castellan/domain/network/NetworkPolicy.ts"
import { assert, it } from "@effect/vitest"
import type { CommandResult } from "@castellan/domain/sandbox/Sandboxes.ts"
import { Effect, Layer, Schema } from "effect"
import { authority, httpServer, httpsServer, portOf } from "../../network/internet.ts"
import { createSandbox, sh, stdoutOf, withSandboxes } from "../sandboxes.ts"
import { localProvider } from "../temporary.ts"

const policy = Schema.decodeUnknownSync(NetworkPolicy)

const exitCodeOf = ({ end }: CommandResult) => (end.by === "exited" ? end.exitCode : undefined)

/** Runs a test over a provider whose sandboxes reach some names at servers of this test. */
const withInternet = <A, E>(given: NetworkPolicy, test: Effect.Effect<A, E, any>) =>
  Effect.gen(function* () {
    const own = yield* authority
    const secure = yield* httpsServer((request, response) => {
      response.end(
        `${request.method} ${request.headers.host}${request.url} key=${request.headers["x-key"] ?? "none"}\n`
      )
    }, Certificates.make(own))
    const plain = yield* httpServer((request, response) =>
      response.end(`plain ${request.headers.host}${request.url}\n`)
    )
    const urls = [new URL(`https://127.0.0.1:${portOf(secure.server)}`), new URL(`http://127.0.0.1:${portOf(plain)}`)]
    const egressHosts = new Map(["api.example.com", "www.example.com", "other.example.org"].map((name) => [name, urls]))
    const provider = localProvider({ network: given, egressHosts, egressTrusted: [own.certificate] })
    yield* Effect.scoped(Effect.provide(test, withSandboxes(provider) as Layer.Layer<any>))
  }).pipe(Effect.scoped) as Effect.Effect<void, unknown>

it.live("Programs reach public names by HTTP and HTTPS without knowing of a gateway", () =>
  withInternet(
    "public",
    Effect.gen(function* () {
      const name = yield* createSandbox()
      assert.strictEqual(yield* stdoutOf(name, "curl -sS http://www.example.com/a"), "plain www.example.com/a")
      assert.strictEqual(yield* stdoutOf(name, "curl -sSk https://api.example.com/b"), "GET api.example.com/b key=none")
      const script = 'fetch("http://www.example.com/c").then((r) => r.text()).then(console.log)'
      assert.strictEqual(yield* stdoutOf(name, `node -e '${script}'`), "plain www.example.com/c")
      const unknown = yield* sh(name, "curl -sS --max-time 20 http://no-such-name.invalid/")
      assert.strictEqual(exitCodeOf(unknown), 6)
    })
  )
)

it.live("A rule with headers is applied inside TLS, and the programs of a sandbox trust the gateway", () =>
  withInternet(
    policy({ allow: [{ host: "api.example.com", paths: ["/v1/"], headers: { "x-key": "injected" } }] }),
    Effect.gen(function* () {
      const name = yield* createSandbox()
      assert.strictEqual(
        yield* stdoutOf(name, "curl -sS https://api.example.com/v1/x"),
        "GET api.example.com/v1/x key=injected"
      )
      const script = 'fetch("https://api.example.com/v1/y").then((r) => r.text()).then(console.log)'
      assert.strictEqual(yield* stdoutOf(name, `node -e '${script}'`), "GET api.example.com/v1/y key=injected")
      assert.include(yield* stdoutOf(name, "curl -sS https://api.example.com/v2/x"), "path_not_allowed")
      const bare = yield* stdoutOf(name, "env -i PATH=$PATH curl -sS https://api.example.com/v1/z")
      assert.strictEqual(bare, "GET api.example.com/v1/z key=injected")
      const other = yield* sh(name, "curl -sS https://other.example.org/")
      assert.strictEqual(exitCodeOf(other), 6)
    })
  )
)

it.live("Nothing but names leads out: no address, no loopback of the host, no other port", () =>
  withInternet(
    "public",
    Effect.gen(function* () {
      const name = yield* createSandbox()
      for (const url of [
        "http://93.184.216.34/",
        "http://169.254.169.254/",
        "http://127.66.0.1/",
        "http://[2606:4700::1111]/"
      ]) {
        const exitCode = exitCodeOf(yield* sh(name, `curl -sS --max-time 10 '${url}'`))
        assert.include([7, 35, 52, 56], exitCode, url)
      }
      assert.strictEqual(exitCodeOf(yield* sh(name, "curl -sS --max-time 10 http://www.example.com:8080/")), 7)
    })
  )
)

it.live("A sandbox without a network resolves no name", () =>
  withInternet(
    "none",
    Effect.gen(function* () {
      const name = yield* createSandbox()
      assert.strictEqual(exitCodeOf(yield* sh(name, "curl -sS --max-time 10 http://www.example.com/")), 6)
    })
  )
)
