/** Runs a request with an `Idempotency-Key` once, and replays its saved response to repeated requests. */
import { Access, OnScopeGranted } from "@castellan/domain/identity/Access.ts"
import type { AccountId } from "@castellan/domain/identity/Account.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { InvalidCredential } from "@castellan/domain/identity/Credential.ts"
import {
  IdempotencyKey,
  IdempotencyStore,
  keyLeaseMs,
  SavedResponse
} from "@castellan/domain/identity/IdempotencyStore.ts"
import { newNonce } from "@castellan/domain/newNonce.ts"
import { DateTime, Effect, Fiber, Layer, Option, Redacted, Schema } from "effect"
import { Aead, Digest, Mac, SecureRandom } from "effect/crypto"
import { Base64 } from "effect/encoding"
import { HttpServerRequest, HttpServerResponse } from "effect/http"
import { Idempotent, RequestNonce } from "../api/Idempotent.ts"
import { IdempotencyInFlight, IdempotencyKeyReused, RequestRefused } from "../api/Statuses.ts"

const isKey = Schema.is(IdempotencyKey)

const utf8 = new TextEncoder()

/** What is encrypted of a saved response: its body, the account it was for, and the nonce that names were derived from. */
interface SealedContent {
  readonly account: AccountId | null
  readonly nonce: string
  readonly body: string
}

/** Encrypts saved responses under the server's secret, because they can contain secrets that are shown once, such as API keys. */
const makeSeal = Effect.fnUntraced(function* (secret: Redacted.Redacted<Uint8Array>) {
  const aead = yield* Aead.Aead
  const random = yield* SecureRandom.SecureRandom
  const mac = yield* Mac.Mac
  const root = yield* Mac.key(Mac.hmacSha256, Redacted.value(secret))
  const key = yield* Aead.key(Aead.aes256Gcm, yield* mac.sign(root, utf8.encode("idempotent answers")))

  const seal = Effect.fnUntraced(function* (content: SealedContent) {
    const nonce = yield* random.randomBytes(Aead.aes256Gcm.nonceLength)
    const sealed = yield* aead.encrypt(key, utf8.encode(JSON.stringify(content)), { nonce })
    const all = new Uint8Array(nonce.length + sealed.length)
    all.set(nonce)
    all.set(sealed, nonce.length)
    return Base64.encode(all)
  }, Effect.orDie)

  const open = Effect.fnUntraced(function* (text: string) {
    const bytes = yield* Effect.fromResult(Base64.decode(text))
    const nonce = bytes.subarray(0, Aead.aes256Gcm.nonceLength)
    const opened = yield* aead.decrypt(key, bytes.subarray(Aead.aes256Gcm.nonceLength), { nonce })
    return JSON.parse(new TextDecoder().decode(opened)) as SealedContent
  }, Effect.orDie)

  return { seal, open }
})

const bodyOf = (response: HttpServerResponse.HttpServerResponse): string =>
  response.body._tag === "Uint8Array" ? new TextDecoder().decode(response.body.body) : ""

/**
 * A request with a key runs to its end even if its caller disconnects, and its response is saved. A request that fails with
 * an error of the API is forgotten, so that it can be repeated. After a crash, the next attempt gets the same nonce. A saved
 * response is replayed only while the caller may act for the account it was for; otherwise the endpoint runs and refuses.
 */
export const layer = (options: { readonly secret: Redacted.Redacted<Uint8Array> }) =>
  Layer.effect(
    Idempotent,
    Effect.gen(function* () {
      const store = yield* IdempotencyStore
      const random = yield* SecureRandom.SecureRandom
      const digest = yield* Digest.Digest
      const access = yield* Access
      const { open, seal } = yield* Effect.orDie(makeSeal(options.secret))

      /**
       * Runs an attempt and renews the lease of its key meanwhile. The attempt gets an effect that stops the renewal and
       * returns the start of the lease, by which the store recognizes the holder.
       */
      const withLease = Effect.fnUntraced(function* <A, E, R>(
        scope: AccountScope,
        key: IdempotencyKey,
        begun: DateTime.Utc,
        attempt: (leaseStart: Effect.Effect<DateTime.Utc>) => Effect.Effect<A, E, R>
      ) {
        let heldSince = begun
        const renewal = Effect.gen(function* () {
          const at = yield* DateTime.now
          if (!(yield* store.renew(scope, key, heldSince, at))) return false
          heldSince = at
          return true
        }).pipe(
          Effect.uninterruptible,
          Effect.catchCause((cause) =>
            Effect.as(Effect.logWarning("Failed to renew the lease of an idempotency key", cause), true)
          )
        )
        const renewing = Effect.delay(renewal, keyLeaseMs / 3).pipe(
          Effect.repeat({ while: (isHeld) => isHeld }),
          Effect.interruptible
        )
        const fiber = yield* Effect.forkChild(renewing)
        const stopRenewal = Effect.andThen(
          Fiber.interrupt(fiber),
          Effect.sync(() => heldSince)
        )
        return yield* Effect.ensuring(attempt(stopRenewal), stopRenewal)
      }, Effect.uninterruptible)

      return Idempotent.of((endpoint) =>
        Effect.gen(function* () {
          const request = yield* HttpServerRequest.HttpServerRequest
          const key = request.headers["idempotency-key"]
          if (key === undefined) return yield* endpoint
          if (!isKey(key)) {
            return yield* new RequestRefused({
              say: "Idempotency-Key must be 1 to 255 printable characters",
              fields: ["idempotency-key"]
            })
          }
          const scope = yield* AccountScope.own
          const text = yield* Effect.orDie(request.text)
          const at = yield* DateTime.now
          const asked = yield* store.begin(scope, key, {
            request: yield* digest.digestHex(Digest.sha256, utf8.encode(`${request.method} ${request.url}\n${text}`)),
            nonce: yield* newNonce(random),
            at
          })
          switch (asked._tag) {
            case "Reused":
              return yield* new IdempotencyKeyReused()
            case "InFlight":
              return yield* new IdempotencyInFlight()
            case "Completed": {
              const { account, body, nonce } = yield* open(asked.answer.body)
              if (account !== null && Option.isNone(yield* Effect.option(access.scopeOf(account)))) {
                return yield* Effect.provideService(endpoint, RequestNonce, Option.some(nonce))
              }
              return HttpServerResponse.text(body, {
                status: asked.answer.status,
                contentType: "application/json",
                headers: { "idempotency-replayed": "true" }
              })
            }
            case "First": {
              const { nonce } = asked
              let account: AccountId | null = null
              return yield* withLease(scope, key, at, (leaseStart) =>
                endpoint.pipe(
                  Effect.provideService(RequestNonce, Option.some(nonce)),
                  Effect.provideService(OnScopeGranted, (id: AccountId) => void (account = id)),
                  Effect.tap((response) =>
                    Effect.flatMap(seal({ account, nonce, body: bodyOf(response) }), (body) =>
                      Effect.flatMap(leaseStart, (since) =>
                        store.answer(scope, key, since, new SavedResponse({ status: response.status, body }))
                      )
                    )
                  ),
                  // A credential that is revoked during the request does not undo what it created: the next attempt, with
                  // another credential of the account, gets the same nonce.
                  Effect.tapError((failure) =>
                    failure instanceof InvalidCredential
                      ? Effect.void
                      : Effect.flatMap(leaseStart, (since) => store.forget(scope, key, since))
                  )
                )
              )
            }
          }
        })
      )
    })
  )
