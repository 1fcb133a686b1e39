/** Issues, checks and revokes API keys, and gives a new installation its platform admin. */
import { Context, DateTime, Duration, Effect, Layer, Option, Redacted, Schema } from "effect"
import * as Mac from "effect/crypto/Mac"
import { SecureRandom } from "effect/crypto/SecureRandom"
import * as Hex from "effect/encoding/Hex"
import { newNonce } from "../newNonce.ts"
import { encode } from "../utf8.ts"
import { Account, AccountId } from "./Account.ts"
import { AccountScope } from "./AccountScope.ts"
import { ApiKey, ApiKeyId, isValid, isUseRecordDue, KeyDigest, keyPrefix } from "./ApiKey.ts"
import { type Authentication, InvalidCredential, ofKey } from "./Credential.ts"
import { CredentialWatch } from "./CredentialWatch.ts"
import { IdentityStore } from "./IdentityStore.ts"

/** The scope's account has no key with this id. */
export class ApiKeyNotFound extends Schema.TaggedError<ApiKeyNotFound>()("ApiKeyNotFound", { id: ApiKeyId }) {}

/** A new key with its secret, which can't be read again. */
export interface IssuedKey {
  readonly key: ApiKey
  readonly secret: Redacted.Redacted<string>
}

/** The name of the platform admin's key that comes from the configuration. */
const configuredKey = "configured"

/** The names of the platform admin's keys that the server issues: at its first start, and at a reset. */
const firstKey = "first key"
const resetKey = "reset key"

/** Resets within this time don't revoke each other's keys, so that each of them returns a valid key. */
const resetGracePeriod = Duration.minutes(1)

/** There is no platform admin, because no server has used the store yet. */
export class PlatformAdminMissing extends Schema.TaggedError<PlatformAdminMissing>()("PlatformAdminMissing", {}) {}

/** The result of a reset of the platform admin's key. */
export interface ResetKey {
  readonly issued: IssuedKey
  /** The other valid keys of the platform admin, newest first. */
  readonly kept: ReadonlyArray<ApiKey>
}

export class ApiKeys extends Context.Service<
  ApiKeys,
  {
    /** Issues a key for the scope's account. */
    readonly issue: (
      scope: AccountScope,
      request: { readonly name: string; readonly expiresAt: DateTime.Utc | null }
    ) => Effect.Effect<IssuedKey>
    /** The account of a key. Costs one query, and a write once a minute to record the use. */
    readonly authenticate: (secret: Redacted.Redacted<string>) => Effect.Effect<Authentication, InvalidCredential>
    /** The keys of the scope's account, newest first. */
    readonly list: (scope: AccountScope) => Effect.Effect<ReadonlyArray<ApiKey>>
    /** Revokes a key of the scope's account: requests with it fail, and its open streams end. */
    readonly revoke: (scope: AccountScope, id: ApiKeyId) => Effect.Effect<void, ApiKeyNotFound>
    /**
     * Creates the platform admin if there is none. Adds the configured key to it and revokes the one configured before.
     * If it creates the admin and no key is configured, it issues a key and returns it.
     */
    readonly ensurePlatformAdmin: (
      configured: Option.Option<Redacted.Redacted<string>>
    ) => Effect.Effect<Option.Option<IssuedKey>>
    /**
     * Issues a new key for the platform admin, then revokes those of the first start and of earlier resets. Keeps the
     * configured key, the keys that the admin issued, and those of resets in the last minute, which may run at the same
     * time. The admin has a valid key at every moment.
     */
    readonly resetPlatformAdminKey: Effect.Effect<ResetKey, PlatformAdminMissing>
  }
>()("domain/identity/ApiKeys") {
  /** `secret` is the HMAC key of the digests, so the database alone is not enough to check a guessed key. */
  static readonly layer = (options: { readonly secret: Redacted.Redacted<Uint8Array> }) =>
    Layer.effect(ApiKeys, make(options.secret))
}

const make = Effect.fnUntraced(function* (serverSecret: Redacted.Redacted<Uint8Array>) {
  const store = yield* IdentityStore
  const watch = yield* CredentialWatch
  const random = yield* SecureRandom
  const mac = yield* Mac.Mac
  const hmacKey = yield* Effect.orDie(Mac.key(Mac.hmacSha256, Redacted.value(serverSecret)))

  // A query by digest needs no constant-time comparison: without the server's secret a digest can't be chosen.
  const digest = (secret: Redacted.Redacted<string>) =>
    mac.sign(hmacKey, encode(Redacted.value(secret))).pipe(
      Effect.map((bytes) => KeyDigest.make(Hex.encode(bytes))),
      Effect.orDie
    )

  const add = Effect.fnUntraced(function* (
    scope: AccountScope,
    secret: Redacted.Redacted<string>,
    request: { readonly name: string; readonly expiresAt: DateTime.Utc | null }
  ) {
    const key = new ApiKey({
      id: ApiKeyId.make(`key_${yield* newNonce(random)}`),
      account: scope.account,
      name: request.name,
      createdAt: yield* DateTime.now,
      lastUsedAt: null,
      expiresAt: request.expiresAt
    })
    yield* store.addKey(scope, key, yield* digest(secret))
    return key
  })

  const issue = Effect.fn("ApiKeys.issue")(function* (
    scope: AccountScope,
    request: { readonly name: string; readonly expiresAt: DateTime.Utc | null }
  ) {
    const secret = Redacted.make(`${keyPrefix}${yield* newNonce(random)}${yield* newNonce(random)}`)
    return { key: yield* add(scope, secret, request), secret }
  })

  const authenticate = Effect.fn("ApiKeys.authenticate")(function* (secret: Redacted.Redacted<string>) {
    const found = yield* store.findKey(yield* digest(secret))
    const now = yield* DateTime.now
    if (Option.isNone(found) || !isValid(found.value.key, now)) return yield* new InvalidCredential()
    const { account, key } = found.value
    if (isUseRecordDue(key, now)) yield* store.recordUse(key.id, now)
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
    const before = DateTime.subtractDuration(issued.key.createdAt, resetGracePeriod)
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
