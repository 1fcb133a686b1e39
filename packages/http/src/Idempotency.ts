import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { IdempotencyKey, IdempotencyStore, SavedAnswer } from "@castellan/domain/identity/IdempotencyStore.ts"
import { newNonce } from "@castellan/domain/newNonce.ts"
import { DateTime, Effect, Layer, Option, Redacted, Schema } from "effect"
import { Aead, Digest, Mac, SecureRandom } from "effect/crypto"
import { Base64 } from "effect/encoding"
import { HttpServerRequest, HttpServerResponse } from "effect/http"
import { Idempotent, RequestNonce } from "./api/Idempotent.ts"
import { IdempotencyInFlight, IdempotencyKeyReused, RequestRefused } from "./api/Statuses.ts"

const isKey = Schema.is(IdempotencyKey)

const utf8 = new TextEncoder()

/** Answers can hold what is shown once, such as an API key: they are kept sealed under the server's secret. */
const makeSeal = Effect.fnUntraced(function* (secret: Redacted.Redacted<Uint8Array>) {
  const aead = yield* Aead.Aead
  const random = yield* SecureRandom.SecureRandom
  const mac = yield* Mac.Mac
  const root = yield* Mac.key(Mac.hmacSha256, Redacted.value(secret))
  const key = yield* Aead.key(Aead.aes256Gcm, yield* mac.sign(root, utf8.encode("idempotent answers")))

  const seal = Effect.fnUntraced(function* (text: string) {
    const nonce = yield* random.randomBytes(Aead.aes256Gcm.nonceLength)
    const sealed = yield* aead.encrypt(key, utf8.encode(text), { nonce })
    return Base64.encode(new Uint8Array([...nonce, ...sealed]))
  }, Effect.orDie)

  const open = Effect.fnUntraced(function* (text: string) {
    const bytes = yield* Effect.fromResult(Base64.decode(text))
    const nonce = bytes.subarray(0, Aead.aes256Gcm.nonceLength)
    const opened = yield* aead.decrypt(key, bytes.subarray(Aead.aes256Gcm.nonceLength), { nonce })
    return new TextDecoder().decode(opened)
  }, Effect.orDie)

  return { seal, open }
})

const bodyOf = (response: HttpServerResponse.HttpServerResponse): string =>
  response.body._tag === "Uint8Array" ? new TextDecoder().decode(response.body.body) : ""

/**
 * Runs a keyed request to its end even if its caller hangs up, and keeps the answer. A request that fails with an error
 * of the API is forgotten, so that it can be asked again; one that breaks off keeps its nonce for the next attempt.
 */
export const layer = (options: { readonly secret: Redacted.Redacted<Uint8Array> }) =>
  Layer.effect(
    Idempotent,
    Effect.gen(function* () {
      const store = yield* IdempotencyStore
      const random = yield* SecureRandom.SecureRandom
      const digest = yield* Digest.Digest
      const { open, seal } = yield* Effect.orDie(makeSeal(options.secret))

      return Idempotent.of((endpoint) =>
        Effect.gen(function* () {
          const request = yield* HttpServerRequest.HttpServerRequest
          const key = request.headers["idempotency-key"]
          if (key === undefined) return yield* endpoint
          if (!isKey(key)) {
            return yield* new RequestRefused({ say: "Idempotency-Key must be 1 to 255 printable characters" })
          }
          const scope = yield* AccountScope.own
          const text = yield* Effect.orDie(request.text)
          const asked = yield* store.begin(scope, key, {
            request: yield* digest.digestHex(Digest.sha256, utf8.encode(`${request.method} ${request.url}\n${text}`)),
            nonce: yield* newNonce(random),
            at: yield* DateTime.now
          })
          switch (asked._tag) {
            case "Reused":
              return yield* new IdempotencyKeyReused()
            case "InFlight":
              return yield* new IdempotencyInFlight()
            case "Answered":
              return HttpServerResponse.text(yield* open(asked.answer.body), {
                status: asked.answer.status,
                contentType: "application/json",
                headers: { "idempotency-replayed": "true" }
              })
            case "First":
              return yield* endpoint.pipe(
                Effect.provideService(RequestNonce, Option.some(asked.nonce)),
                Effect.tap((response) =>
                  Effect.flatMap(seal(bodyOf(response)), (body) =>
                    store.answer(scope, key, new SavedAnswer({ status: response.status, body }))
                  )
                ),
                Effect.tapError(() => store.forget(scope, key)),
                Effect.uninterruptible
              )
          }
        })
      )
    })
  )
