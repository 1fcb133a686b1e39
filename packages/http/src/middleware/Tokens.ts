/** Bearer tokens of an identity provider: JWTs that are signed by a key of its set and name an account. */
import { type Account, AccountId, inLowerCase } from "@castellan/domain/identity/Account.ts"
import { type Authentication, InvalidCredential } from "@castellan/domain/identity/Credential.ts"
import { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { Context, DateTime, Duration, Effect, Layer, Option, Redacted, Schema } from "effect"
import type { JWTPayload, JWTVerifyGetKey, JWTVerifyOptions } from "jose"
import { IdentityProviderUnavailable } from "../api/Statuses.ts"

export interface TokenOptions {
  /** What tokens must say of who issued them. */
  readonly issuer: string
  /** What tokens must say of whom they are for. */
  readonly audience: string
  /** Where the issuer's keys are; `<issuer>/.well-known/jwks.json` if left out. */
  readonly jwksUrl?: string
  /** The claim that holds an account's id; `sub` if left out. */
  readonly accountClaim?: string
  /** How long after the keys were read a token with an unknown one does not make them be read again; 30 s. */
  readonly readAgainAfter?: Duration.Duration
}

/** Signatures that only the holder of a private key can make. */
const algorithms = "RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA Ed25519".split(" ")

/** How long the provider may take to give its keys, in milliseconds. */
const patience = 5000

/** The keys could not be read. */
class KeysUnreadable extends Error {
  readonly _tag = "KeysUnreadable"
}

/** The moment of a token's expiry; its claim may be later than any date. */
const expiryOf = ({ exp }: JWTPayload) => DateTime.makeUnsafe(Math.min(exp! * 1000, 8.64e15))

const isAccountId = Schema.is(AccountId)

export const keysOf = ({ issuer, jwksUrl }: Pick<TokenOptions, "issuer" | "jwksUrl">): URL =>
  new URL(jwksUrl ?? `${issuer.replace(/\/+$/, "")}/.well-known/jwks.json`)

/** Reads a key set so that a failure to read it can be told from a bad token. */
const readKeys: typeof fetch = async (url, init) => {
  try {
    const response = await fetch(url, init)
    if (response.status !== 200) throw new Error(`answered with ${response.status}`)
    const keys: unknown = await response.json()
    if (!Array.isArray((keys as { readonly keys?: unknown } | null)?.keys)) throw new Error("gave no key set")
    return Response.json(keys)
  } catch (cause) {
    throw new KeysUnreadable("The key set can't be read", { cause })
  }
}

export class Tokens extends Context.Service<
  Tokens,
  {
    /** Whose token it is. Every fault of the token's, and an account that does not exist, is refused in the same way. */
    readonly authenticate: (
      token: Redacted.Redacted<string>
    ) => Effect.Effect<Authentication, InvalidCredential | IdentityProviderUnavailable>
  }
>()("http/Tokens") {
  /** Where no issuer is known every token is refused. */
  static readonly layer = (options: TokenOptions | undefined) =>
    options === undefined
      ? Layer.succeed(Tokens, { authenticate: () => Effect.fail(new InvalidCredential()) })
      : Layer.effect(Tokens, make(options))
}

const make = Effect.fnUntraced(function* (options: TokenOptions) {
  const store = yield* IdentityStore
  const jose = yield* Effect.promise(() => import("jose"))
  const keys = jose.createRemoteJWKSet(keysOf(options), {
    timeoutDuration: patience,
    cooldownDuration: Duration.toMillis(options.readAgainAfter ?? Duration.seconds(30)),
    [jose.customFetch]: readKeys
  })

  /** The token's claims; of several keys that may have signed it, as where none has an id, each is tried. */
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
        cause instanceof KeysUnreadable
          ? Effect.logWarning("the identity provider's keys can't be read", cause)
          : Effect.logDebug("a token was refused", cause)
      ),
      Effect.mapError((cause) =>
        cause instanceof KeysUnreadable ? new IdentityProviderUnavailable() : new InvalidCredential()
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
