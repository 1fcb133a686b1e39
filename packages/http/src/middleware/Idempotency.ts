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

/** An answer, with whom it was given for and what was made was named after. */
interface Kept {
  readonly account: AccountId | null
  readonly nonce: string
  readonly body: string
}

/** Answers can hold what is shown once, such as an API key: they are kept sealed under the server's secret. */
const makeSeal = Effect.fnUntraced(function* (secret: Redacted.Redacted<Uint8Array>) {
  const aead = yield* Aead.Aead
  const random = yield* SecureRandom.SecureRandom
  const mac = yield* Mac.Mac
  const root = yield* Mac.key(Mac.hmacSha256, Redacted.value(secret))
  const key = yield* Aead.key(Aead.aes256Gcm, yield* mac.sign(root, utf8.encode("idempotent answers")))

  const seal = Effect.fnUntraced(function* (kept: Kept) {
    const nonce = yield* random.randomBytes(Aead.aes256Gcm.nonceLength)
    const sealed = yield* aead.encrypt(key, utf8.encode(JSON.stringify(kept)), { nonce })
    const all = new Uint8Array(nonce.length + sealed.length)
    all.set(nonce)
    all.set(sealed, nonce.length)
    return Base64.encode(all)
  }, Effect.orDie)

  const open = Effect.fnUntraced(function* (text: string) {
    const bytes = yield* Effect.fromResult(Base64.decode(text))
    const nonce = bytes.subarray(0, Aead.aes256Gcm.nonceLength)
    const opened = yield* aead.decrypt(key, bytes.subarray(Aead.aes256Gcm.nonceLength), { nonce })
    return JSON.parse(new TextDecoder().decode(opened)) as Kept
  }, Effect.orDie)

  return { seal, open }
})

const bodyOf = (response: HttpServerResponse.HttpServerResponse): string =>
  response.body._tag === "Uint8Array" ? new TextDecoder().decode(response.body.body) : ""

/**
 * Runs a keyed request to its end even if its caller hangs up, and keeps the answer. A request that fails with an error
 * of the API is forgotten, so that it can be asked again; one that breaks off keeps its nonce for the next attempt. A kept
 * answer is for who may still act for the account it was given for; anybody else is refused by the endpoint, as always.
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
       * Does what an attempt does while its key is held, however long that takes. `held` gives since when its lease counts,
       * and lets no renewal change that any more.
       */
      const whileHeld = Effect.fnUntraced(function* <A, E, R>(
        scope: AccountScope,
        key: IdempotencyKey,
        begun: DateTime.Utc,
        attempt: (held: Effect.Effect<DateTime.Utc>) => Effect.Effect<A, E, R>
      ) {
        let held = begun
        const renewal = Effect.gen(function* () {
          const at = yield* DateTime.now
          if (!(yield* store.renew(scope, key, held, at))) return false
          held = at
          return true
        }).pipe(
          Effect.uninterruptible,
          Effect.catchCause((cause) =>
            Effect.as(Effect.logWarning("The lease of an idempotency key was not renewed", cause), true)
          )
        )
        const renewing = Effect.delay(renewal, keyLeaseMs / 3).pipe(
          Effect.repeat({ while: (isHeld) => isHeld }),
          Effect.interruptible
        )
        const fiber = yield* Effect.forkChild(renewing)
        const settled = Effect.andThen(
          Fiber.interrupt(fiber),
          Effect.sync(() => held)
        )
        return yield* Effect.ensuring(attempt(settled), settled)
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
              return yield* whileHeld(scope, key, at, (held) =>
                endpoint.pipe(
                  Effect.provideService(RequestNonce, Option.some(nonce)),
                  Effect.provideService(OnScopeGranted, (id: AccountId) => void (account = id)),
                  Effect.tap((response) =>
                    Effect.flatMap(seal({ account, nonce, body: bodyOf(response) }), (body) =>
                      Effect.flatMap(held, (since) =>
                        store.answer(scope, key, since, new SavedResponse({ status: response.status, body }))
                      )
                    )
                  ),
                  // A credential that ends during the work does not undo what the work began: the nonce stays for the next
                  // attempt, which may come with another credential of the account.
                  Effect.tapError((failure) =>
                    failure instanceof InvalidCredential
                      ? Effect.void
                      : Effect.flatMap(held, (since) => store.forget(scope, key, since))
                  )
                )
              )
            }
          }
        })
      )
    })
  )
