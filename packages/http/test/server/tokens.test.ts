import * as Tokens from "../../src/middleware/Tokens.ts"
import { assert, layer } from "@effect/vitest"
import { Context, Duration, Effect, Fiber, Layer } from "effect"
import { TestClock } from "effect/testing"
import { exportJWK, exportSPKI, generateKeyPair, type JWK, type JWTHeaderParameters, SignJWT, UnsecuredJWT } from "jose"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { WebApi } from "../WebApi.ts"

const issuer = "https://login.example"
const audience = "https://castellan.example"

interface SigningKey {
  readonly header: JWTHeaderParameters
  readonly private: CryptoKey
  readonly public: CryptoKey
  readonly jwk: JWK
}

const signingKey = (kid: string | undefined, alg = "ES256") =>
  Effect.promise(async (): Promise<SigningKey> => {
    const pair = await generateKeyPair(alg, { extractable: true })
    const header = { alg, ...(kid === undefined ? {} : { kid }) }
    const jwk = { ...(await exportJWK(pair.publicKey)), ...header }
    return { header, private: pair.privateKey, public: pair.publicKey, jwk }
  })

/** A key set on loopback with changeable content and a count of the requests. */
class KeySet extends Context.Service<
  KeySet,
  {
    readonly url: string
    readonly publish: (...keys: ReadonlyArray<SigningKey>) => void
    readonly answer: (status: number, body: string) => void
    readonly asked: () => number
  }
>()("http/test/KeySet") {
  static readonly layer = Layer.effect(
    KeySet,
    Effect.gen(function* () {
      let [status, body, asked] = [200, `{"keys":[]}`, 0]
      const server = createServer((_, response) => {
        asked++
        response.writeHead(status, { "content-type": "application/json", connection: "close" }).end(body)
      })
      yield* Effect.acquireRelease(
        Effect.promise(() => new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))),
        () => Effect.promise(() => new Promise((resolve) => server.close(resolve)))
      )
      const answer = (newStatus: number, newBody: string) => {
        status = newStatus
        body = newBody
      }
      return KeySet.of({
        url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/keys`,
        publish: (...keys) => answer(200, JSON.stringify({ keys: keys.map(({ jwk }) => jwk) })),
        answer,
        asked: () => asked
      })
    })
  )
}

const api = (more: Partial<Tokens.TokenOptions> = {}) =>
  Layer.unwrap(
    Effect.map(KeySet, ({ url }) => WebApi.layerWith({ tokens: { issuer, audience, jwksUrl: url, ...more } }))
  ).pipe(Layer.provideMerge(KeySet.layer))

/** A token as the provider issues it, valid for an hour by default. Times are seconds of the test's clock. */
const tokenOf = (account: string, key: SigningKey, claims: Record<string, unknown> = {}) =>
  Effect.promise(() =>
    new SignJWT({ iss: issuer, aud: audience, sub: account, exp: 3600, ...claims })
      .setProtectedHeader(key.header)
      .sign(key.private)
  )

const asking = (token: string) =>
  Effect.flatMap(WebApi, (api) => api.ask("GET", "/api/keys", { headers: { authorization: `Bearer ${token}` } }))

const unauthorized = JSON.stringify({ status: "error", success: false, error: "Unauthorized", code: "unauthorized" })

const unavailable = {
  status: "error",
  success: false,
  error: "The identity provider does not answer",
  code: "identity_provider_unavailable",
  retryAfterMs: 1000
}

layer(api({ keySetCooldown: Duration.zero }))("A token of the identity provider", (it) => {
  it.effect("authenticates the account that it names, with a signature of any supported asymmetric algorithm", () =>
    Effect.gen(function* () {
      const { account, key } = yield* (yield* WebApi).join()
      const keys = yield* Effect.all(["ES256", "RS256", "PS256", "EdDSA"].map((alg) => signingKey(alg, alg)))
      ;(yield* KeySet).publish(...keys)
      for (const signing of keys) {
        const answer = yield* asking(yield* tokenOf(account.id, signing))
        assert.deepStrictEqual([answer.status, answer.json.keys.length], [200, 1], signing.header.alg)
      }
      const capitals = yield* asking(yield* tokenOf(account.id.toUpperCase(), keys[0]!))
      assert.strictEqual(capitals.status, 200)
      assert.strictEqual((yield* asking(key)).status, 200)
    })
  )

  it.effect("is refused with the same sentence, whatever is wrong with it", () =>
    Effect.gen(function* () {
      const { account } = yield* (yield* WebApi).join()
      const [good, foreign] = [yield* signingKey("good"), yield* signingKey("foreign")]
      const [impostor, rsa] = [yield* signingKey("good"), yield* signingKey("rsa", "RS256")]
      const set = yield* KeySet
      set.publish(good, rsa)
      const pem = new TextEncoder().encode(yield* Effect.promise(() => exportSPKI(rsa.public)))
      const claims = { iss: issuer, aud: audience, sub: account.id, exp: 3600 }
      const symmetric = new SignJWT(claims).setProtectedHeader({ alg: "HS256", kid: "rsa" })
      const fine = yield* tokenOf(account.id, good)
      const [header, payload, signature] = fine.split(".") as [string, string, string]
      const other = Buffer.from(JSON.stringify({ ...claims, sub: "someone" })).toString("base64url")
      const bad: Record<string, string> = {
        "of another issuer": yield* tokenOf(account.id, good, { iss: `${issuer}/` }),
        "of no issuer": yield* tokenOf(account.id, good, { iss: undefined }),
        "for another audience": yield* tokenOf(account.id, good, { aud: "https://other.example" }),
        "for no audience": yield* tokenOf(account.id, good, { aud: undefined }),
        "that never expires": yield* tokenOf(account.id, good, { exp: undefined }),
        "that expires at this moment": yield* tokenOf(account.id, good, { exp: 0 }),
        "that is not valid yet": yield* tokenOf(account.id, good, { nbf: 10 }),
        "of no account": yield* tokenOf("00000000-0000-4000-8000-00000000dead", good),
        "of what is no account's id": yield* tokenOf("ada", good),
        "that names nobody": yield* tokenOf(account.id, good, { sub: undefined }),
        "that names a number": yield* tokenOf(account.id, good, { sub: 7 }),
        "of a key that is not in the set": yield* tokenOf(account.id, foreign),
        "of a key that takes the name of another": yield* tokenOf(account.id, impostor),
        "with a symmetric signature of the public key": yield* Effect.promise(() => symmetric.sign(pem)),
        "without a signature": new UnsecuredJWT(claims).encode(),
        "with its signature cut off": `${header}.${payload}.`,
        "with another payload": `${header}.${other}.${signature}`,
        "that is none": "aaa.bbb.ccc",
        "that has no form": "token"
      }
      assert.strictEqual((yield* asking(fine)).status, 200)
      for (const [what, token] of Object.entries(bad)) {
        const answer = yield* asking(token)
        assert.deepStrictEqual([answer.status, answer.text], [401, unauthorized], what)
      }
    })
  )

  it.effect("is refused once it has expired", () =>
    Effect.gen(function* () {
      const { account } = yield* (yield* WebApi).join()
      const key = yield* signingKey("short")
      ;(yield* KeySet).publish(key)
      const token = yield* tokenOf(account.id, key, { nbf: 10, exp: 20 })
      for (const [at, status] of [
        [9_000, 401],
        [10_000, 200],
        [19_999, 200],
        [20_000, 401]
      ] as const) {
        yield* TestClock.setTime(at)
        assert.strictEqual((yield* asking(token)).status, status, `${at}`)
      }
    })
  )
})

layer(api())("A stream that was opened with a token", (it) => {
  it.effect("ends with an error event when the token expires, however late that is", () =>
    Effect.gen(function* () {
      const { fetch, join } = yield* WebApi
      const { account } = yield* join()
      const key = yield* signingKey("streams")
      ;(yield* KeySet).publish(key)
      const open = Effect.fnUntraced(function* (exp: number) {
        const token = yield* tokenOf(account.id, key, { exp })
        const headers = { authorization: `Bearer ${token}` }
        const response = yield* fetch(new Request("http://castellan.test/api/events", { headers }))
        assert.strictEqual(response.status, 200)
        return yield* Effect.forkChild(Effect.promise(() => response.text()))
      })
      const [soon, later, never] = [yield* open(100), yield* open(4_000_000), yield* open(1e300)]
      yield* TestClock.adjust("99 seconds")
      assert.isUndefined(soon.pollUnsafe())
      yield* TestClock.adjust("1 second")
      assert.match(yield* Fiber.join(soon), /event: error\ndata: \{"error":"Unauthorized","code":"unauthorized"\}\n\n$/)
      yield* TestClock.adjust("1 minute")
      for (const stream of [later, never]) assert.isUndefined(stream.pollUnsafe())
    }).pipe(Effect.scoped)
  )
})

layer(api({ keySetCooldown: Duration.zero }))("The identity provider", (it) => {
  it.effect("may rotate its keys", () =>
    Effect.gen(function* () {
      const { account } = yield* (yield* WebApi).join()
      const [old, next] = [yield* signingKey("old"), yield* signingKey("next")]
      const set = yield* KeySet
      set.publish(old)
      assert.strictEqual((yield* asking(yield* tokenOf(account.id, old))).status, 200)
      set.publish(next)
      assert.strictEqual((yield* asking(yield* tokenOf(account.id, next))).status, 200)
      assert.strictEqual((yield* asking(yield* tokenOf(account.id, old))).status, 401)
    })
  )

  it.effect("may have several keys without an id", () =>
    Effect.gen(function* () {
      const { account } = yield* (yield* WebApi).join()
      const keys = yield* Effect.all([signingKey(undefined), signingKey(undefined)])
      const stranger = yield* signingKey(undefined)
      // The first token is discarded: its unknown key causes the key set to be fetched again.
      ;(yield* KeySet).publish(...keys)
      yield* asking(yield* tokenOf(account.id, yield* signingKey("unknown")))
      for (const key of keys) assert.strictEqual((yield* asking(yield* tokenOf(account.id, key))).status, 200)
      assert.strictEqual((yield* asking(yield* tokenOf(account.id, stranger))).status, 401)
      assert.strictEqual((yield* asking(yield* tokenOf(account.id, keys[1]!, { aud: "x" }))).status, 401)
    })
  )

  it.effect("is named in the error if it does not respond, and does not affect API keys", () =>
    Effect.gen(function* () {
      const { account, key } = yield* (yield* WebApi).join()
      const signing = yield* signingKey("later")
      const set = yield* KeySet
      for (const [status, body] of [
        [500, "s3cr3t"],
        [302, ""],
        [200, "<html>"],
        [200, "null"],
        [200, `{"keys":"none"}`]
      ] as const) {
        set.answer(status, body)
        const answer = yield* asking(yield* tokenOf(account.id, signing))
        assert.deepStrictEqual([answer.status, answer.json], [503, unavailable])
        assert.strictEqual(answer.headers.get("retry-after"), "1")
        assert.strictEqual((yield* asking(key)).status, 200)
      }
      set.publish(signing)
      assert.strictEqual((yield* asking(yield* tokenOf(account.id, signing))).status, 200)
    })
  )
})

layer(api())("Unknown key ids", (it) => {
  it.effect("do not cause the key set to be fetched for every token", () =>
    Effect.gen(function* () {
      const { account } = yield* (yield* WebApi).join()
      const set = yield* KeySet
      set.publish(yield* signingKey("known"))
      for (let i = 0; i < 5; i++) {
        assert.strictEqual((yield* asking(yield* tokenOf(account.id, yield* signingKey(`unknown-${i}`)))).status, 401)
      }
      assert.strictEqual(set.asked(), 1)
    })
  )
})

layer(WebApi.layerWith({ tokens: { issuer: "http://127.0.0.1:1", audience } }))(
  "An unavailable identity provider",
  (it) => {
    it.effect("causes another error than an invalid token", () =>
      Effect.gen(function* () {
        const { account } = yield* (yield* WebApi).join()
        const token = yield* tokenOf(account.id, yield* signingKey("any"))
        const answer = yield* asking(token)
        assert.deepStrictEqual([answer.status, answer.json], [503, unavailable])
        assert.strictEqual((yield* asking("aaa.bbb.ccc")).status, 401)
      })
    )
  }
)

layer(api({ accountClaim: "https://castellan.example/account" }))("The claim that names the account", (it) => {
  it.effect("is the configured one", () =>
    Effect.gen(function* () {
      const [one, two] = [yield* (yield* WebApi).join(), yield* (yield* WebApi).join()]
      const key = yield* signingKey("k")
      ;(yield* KeySet).publish(key)
      const claims = { "https://castellan.example/account": two.account.id }
      const known = yield* (yield* WebApi).ask("GET", "/api/keys", { key: two.key })
      const answer = yield* asking(yield* tokenOf(one.account.id, key, claims))
      assert.deepStrictEqual(answer.json, known.json)
      assert.strictEqual((yield* asking(yield* tokenOf(one.account.id, key))).status, 401)
    })
  )
})

layer(WebApi.layer)("Without an identity provider", (it) => {
  it.effect("every token is refused", () =>
    Effect.gen(function* () {
      const { account } = yield* (yield* WebApi).join()
      const answer = yield* asking(yield* tokenOf(account.id, yield* signingKey("any")))
      assert.deepStrictEqual([answer.status, answer.text], [401, unauthorized])
    })
  )
})
