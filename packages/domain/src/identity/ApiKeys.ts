import { Context, DateTime, Duration, Effect, Layer, Option, Redacted, Schema } from "effect"
import * as Mac from "effect/crypto/Mac"
import { SecureRandom } from "effect/crypto/SecureRandom"
import * as Hex from "effect/encoding/Hex"
import { newNonce } from "../newNonce.ts"
import { encode } from "../utf8.ts"
import { Account, AccountId } from "./Account.ts"
import { AccountScope } from "./AccountScope.ts"
import { ApiKey, ApiKeyId, isValid, isWorthRecording, KeyDigest, keyPrefix } from "./ApiKey.ts"
import { type Authentication, InvalidCredential, ofKey } from "./Credential.ts"
import { CredentialWatch } from "./CredentialWatch.ts"
import { IdentityStore } from "./IdentityStore.ts"

/** The scope's account has no key of that id. */
export class ApiKeyNotFound extends Schema.TaggedError<ApiKeyNotFound>()("ApiKeyNotFound", { id: ApiKeyId }) {}

/** A key at the one moment when it can be read. */
export interface IssuedKey {
  readonly key: ApiKey
  readonly secret: Redacted.Redacted<string>
}

/** The name of the key that an installation's configuration gives to its platform admin. */
const configuredKey = "configured"

/** The names of the keys that an installation makes for its platform admin: at its first start, and at a reset. */
const firstKey = "first key"
const resetKey = "reset key"

/** The time within which resets count as simultaneous, so that each of them gives a key that works. */
const simultaneous = Duration.minutes(1)

/** No server has used the store yet: there is no platform admin. */
export class PlatformAdminMissing extends Schema.TaggedError<PlatformAdminMissing>()("PlatformAdminMissing", {}) {}

/** What a reset of the platform admin's key gives. */
export interface ResetKey {
  readonly issued: IssuedKey
  /** The other keys of the platform admin that still work, newest first. */
  readonly kept: ReadonlyArray<ApiKey>
}

export class ApiKeys extends Context.Service<
  ApiKeys,
  {
    /** Makes a key for the scope's account. */
    readonly issue: (
      scope: AccountScope,
      wanted: { readonly name: string; readonly expiresAt: DateTime.Utc | null }
    ) => Effect.Effect<IssuedKey>
    /** Whose key it is. One look-up, and once a minute a write to record the use. */
    readonly authenticate: (secret: Redacted.Redacted<string>) => Effect.Effect<Authentication, InvalidCredential>
    /** The keys of the scope's account, newest first. */
    readonly list: (scope: AccountScope) => Effect.Effect<ReadonlyArray<ApiKey>>
    /** Ends a key of the scope's account: the next request with it is refused, and what is open for it ends. */
    readonly revoke: (scope: AccountScope, id: ApiKeyId) => Effect.Effect<void, ApiKeyNotFound>
    /**
     * Sees to it that there is a platform admin, and that the configured key is its key and the one configured before
     * no longer is. Where there was no admin and none is configured, a key is made and given back.
     */
    readonly ensurePlatformAdmin: (
      configured: Option.Option<Redacted.Redacted<string>>
    ) => Effect.Effect<Option.Option<IssuedKey>>
    /**
     * Makes a new key for the platform admin, and revokes the one made at the first start and those made by earlier
     * resets. Keeps the configured key, the keys that the admin made, and those of resets in the last minute, which may
     * be simultaneous. There is a working key at every moment: the new one is written before the old ones are revoked.
     */
    readonly resetPlatformAdminKey: Effect.Effect<ResetKey, PlatformAdminMissing>
  }
>()("domain/identity/ApiKeys") {
  /** `secret` keys the digests: whoever has the database alone can't tell a key from its digest. */
  static readonly layer = (options: { readonly secret: Redacted.Redacted<Uint8Array> }) =>
    Layer.effect(ApiKeys, make(options.secret))
}

const make = Effect.fnUntraced(function* (serverSecret: Redacted.Redacted<Uint8Array>) {
  const store = yield* IdentityStore
  const watch = yield* CredentialWatch
  const random = yield* SecureRandom
  const mac = yield* Mac.Mac
  const hmacKey = yield* Effect.orDie(Mac.key(Mac.hmacSha256, Redacted.value(serverSecret)))

  // The look-up by digest is the constant-time comparison: without the server's secret nobody can steer a digest.
  const digest = (secret: Redacted.Redacted<string>) =>
    mac.sign(hmacKey, encode(Redacted.value(secret))).pipe(
      Effect.map((bytes) => KeyDigest.make(Hex.encode(bytes))),
      Effect.orDie
    )

  const add = Effect.fnUntraced(function* (
    scope: AccountScope,
    secret: Redacted.Redacted<string>,
    wanted: { readonly name: string; readonly expiresAt: DateTime.Utc | null }
  ) {
    const key = new ApiKey({
      id: ApiKeyId.make(`key_${yield* newNonce(random)}`),
      account: scope.account,
      name: wanted.name,
      createdAt: yield* DateTime.now,
      lastUsedAt: null,
      expiresAt: wanted.expiresAt
    })
    yield* store.addKey(scope, key, yield* digest(secret))
    return key
  })

  const issue = Effect.fn("ApiKeys.issue")(function* (
    scope: AccountScope,
    wanted: { readonly name: string; readonly expiresAt: DateTime.Utc | null }
  ) {
    const secret = Redacted.make(`${keyPrefix}${yield* newNonce(random)}${yield* newNonce(random)}`)
    return { key: yield* add(scope, secret, wanted), secret }
  })

  const authenticate = Effect.fn("ApiKeys.authenticate")(function* (secret: Redacted.Redacted<string>) {
    const found = yield* store.findKey(yield* digest(secret))
    const now = yield* DateTime.now
    if (Option.isNone(found) || !isValid(found.value.key, now)) return yield* new InvalidCredential()
    const { account, key } = found.value
    if (isWorthRecording(key, now)) yield* store.recordUse(key.id, now)
    return { account, credential: ofKey(key) }
  })

  const remove = (scope: AccountScope, id: ApiKeyId) => Effect.tap(store.removeKey(scope, id), () => watch.revoked(id))

  const revoke = Effect.fn("ApiKeys.revoke")(function* (scope: AccountScope, id: ApiKeyId) {
    if (!(yield* remove(scope, id))) return yield* new ApiKeyNotFound({ id })
  })

  const addPlatformAdmin = Effect.gen(function* () {
    const account = new Account({
      id: AccountId.make(yield* random.uuidV4()),
      name: "platform admin",
      email: null,
      platformAdmin: true,
      createdAt: yield* DateTime.now
    })
    yield* store.addAccount(account)
    return account
  })

  const useConfigured = Effect.fnUntraced(function* (admin: Account, secret: Redacted.Redacted<string>) {
    const scope = AccountScope.ofOwner({ account: admin.id })
    const known = yield* store.findKey(yield* digest(secret))
    const keep = Option.filter(known, ({ key }) => key.account === admin.id)
    for (const key of yield* store.listKeys(scope)) {
      if (key.name === configuredKey && !(Option.isSome(keep) && keep.value.key.id === key.id)) {
        yield* remove(scope, key.id)
      }
    }
    if (Option.isNone(keep)) yield* add(scope, secret, { name: configuredKey, expiresAt: null })
  })

  const ensurePlatformAdmin = Effect.fn("ApiKeys.ensurePlatformAdmin")(function* (
    configured: Option.Option<Redacted.Redacted<string>>
  ) {
    const known = yield* store.findPlatformAdmin
    const admin = Option.isSome(known) ? known.value : yield* addPlatformAdmin
    if (Option.isSome(configured)) {
      yield* useConfigured(admin, configured.value)
      return Option.none<IssuedKey>()
    }
    if (Option.isSome(known)) return Option.none<IssuedKey>()
    return Option.some(yield* issue(AccountScope.ofOwner({ account: admin.id }), { name: firstKey, expiresAt: null }))
  })

  const resetPlatformAdminKey = Effect.gen(function* () {
    const admin = yield* store.findPlatformAdmin
    if (Option.isNone(admin)) return yield* new PlatformAdminMissing()
    const scope = AccountScope.ofOwner({ account: admin.value.id })
    const issued = yield* issue(scope, { name: resetKey, expiresAt: null })
    const before = DateTime.subtractDuration(issued.key.createdAt, simultaneous)
    const isReplaced = ({ createdAt, name }: ApiKey) =>
      name === firstKey || (name === resetKey && DateTime.isLessThan(createdAt, before))
    const others = (yield* store.listKeys(scope)).filter(({ id }) => id !== issued.key.id)
    for (const { id } of others.filter(isReplaced)) yield* remove(scope, id)
    const now = yield* DateTime.now
    return { issued, kept: others.filter((key) => !isReplaced(key) && isValid(key, now)) }
  }).pipe(Effect.withSpan("ApiKeys.resetPlatformAdminKey"))

  return ApiKeys.of({
    issue,
    authenticate,
    list: store.listKeys,
    revoke,
    ensurePlatformAdmin,
    resetPlatformAdminKey
  })
})
