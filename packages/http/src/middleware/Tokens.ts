/** Authenticates bearer tokens: JWTs signed by a key of the identity provider's key set that name an account. */
import { type Account, AccountId, inLowerCase } from "@castellan/domain/identity/Account.ts"
import { type Authentication, InvalidCredential } from "@castellan/domain/identity/Credential.ts"
import { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { Context, DateTime, Duration, Effect, Layer, Option, Redacted, Schema } from "effect"
import type { JWTPayload, JWTVerifyGetKey, JWTVerifyOptions } from "jose"
import { IdentityProviderUnavailable } from "../api/Statuses.ts"

export interface TokenOptions {
  /** The required `iss` claim. */
  readonly issuer: string
  /** The required `aud` claim. */
  readonly audience: string
  /** URL of the key set; `<issuer>/.well-known/jwks.json` if left out. */
  readonly jwksUrl?: string
  /** The claim that holds an account's id; `sub` if left out. */
  readonly accountClaim?: string
  /** How long an unknown key id does not cause another download of the key set. Default 30 seconds. */
  readonly keySetCooldown?: Duration.Duration
}

/** Asymmetric algorithms only: a symmetric one would accept tokens signed with a public key. */
const algorithms = "RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA Ed25519".split(" ")

/** Timeout of a download of the key set, in milliseconds. */
const downloadTimeout = 5000

class KeySetUnavailable extends Error {
  readonly _tag = "KeySetUnavailable"
}

/** When a token expires. The claim may exceed the range of dates. */
const expiryOf = ({ exp }: JWTPayload) => DateTime.makeUnsafe(Math.min(exp! * 1000, 8.64e15))

const isAccountId = Schema.is(AccountId)

export const keysOf = ({ issuer, jwksUrl }: Pick<TokenOptions, "issuer" | "jwksUrl">): URL =>
  new URL(jwksUrl ?? `${issuer.replace(/\/+$/, "")}/.well-known/jwks.json`)

/** Downloads the key set. A failure has its own error, so that it is not taken for an invalid token. */
const readKeys: typeof fetch = async (url, init) => {
  try {
    const response = await fetch(url, init)
    if (response.status !== 200) throw new Error(`answered with ${response.status}`)
    const keys: unknown = await response.json()
    if (!Array.isArray((keys as { readonly keys?: unknown } | null)?.keys)) throw new Error("gave no key set")
    return Response.json(keys)
  } catch (cause) {
    throw new KeySetUnavailable("Failed to read the key set", { cause })
  }
}

export class Tokens extends Context.Service<
  Tokens,
  {
    /** The token's account. An invalid token and an unknown account fail with the same error. */
    readonly authenticate: (
      token: Redacted.Redacted<string>
    ) => Effect.Effect<Authentication, InvalidCredential | IdentityProviderUnavailable>
  }
>()("http/Tokens") {
  /** Without options every token is refused. */
  static readonly layer = (options: TokenOptions | undefined) =>
    options === undefined
      ? Layer.succeed(Tokens, { authenticate: () => Effect.fail(new InvalidCredential()) })
      : Layer.effect(Tokens, make(options))
}

const make = Effect.fnUntraced(function* (options: TokenOptions) {
  const store = yield* IdentityStore
  const jose = yield* Effect.promise(() => import("jose"))
  const keys = jose.createRemoteJWKSet(keysOf(options), {
    timeoutDuration: downloadTimeout,
    cooldownDuration: Duration.toMillis(options.keySetCooldown ?? Duration.seconds(30)),
    [jose.customFetch]: readKeys
  })

  /** The claims of a valid token. If several keys match, as keys without an id do, each is tried. */
  const verify = async (token: string, verifyOptions: JWTVerifyOptions): Promise<JWTPayload> => {
    const one = async (key: Parameters<typeof jose.jwtVerify>[1] | JWTVerifyGetKey) =>
      (await jose.jwtVerify(token, key as JWTVerifyGetKey, verifyOptions)).payload
    try {
      return await one(keys)
    } catch (cause) {
      if (!(cause instanceof jose.errors.JWKSMultipleMatchingKeys)) throw cause
      for await (const key of cause) {
        try {
          return await one(key)
        } catch (refused) {
          if (!(refused instanceof jose.errors.JWSSignatureVerificationFailed)) throw refused
        }
      }
      throw new jose.errors.JWSSignatureVerificationFailed()
    }
  }

  const authenticate = Effect.fn("Tokens.authenticate")(function* (token: Redacted.Redacted<string>) {
    const verifyOptions: JWTVerifyOptions = {
      algorithms,
      issuer: options.issuer,
      audience: options.audience,
      requiredClaims: ["exp"],
      currentDate: DateTime.toDateUtc(yield* DateTime.now)
    }
    const claims = yield* Effect.tryPromise({
      try: () => verify(Redacted.value(token), verifyOptions),
      catch: (cause) => cause
    }).pipe(
      Effect.tapError((cause) =>
        cause instanceof KeySetUnavailable
          ? Effect.logWarning("Failed to read the key set of the identity provider", cause)
          : Effect.logDebug("Refused a token", cause)
      ),
      Effect.mapError((cause) =>
        cause instanceof KeySetUnavailable ? new IdentityProviderUnavailable() : new InvalidCredential()
      )
    )
    const account = claims[options.accountClaim ?? "sub"]
    const found = isAccountId(account) ? yield* store.findAccount(inLowerCase(account)) : Option.none<Account>()
    if (Option.isNone(found)) return yield* new InvalidCredential()
    const credential = { account: found.value.id, key: null, expiresAt: expiryOf(claims) }
    return { account: found.value, credential }
  })

  return Tokens.of({ authenticate })
})
