/** Ends streams and other long requests when their credential is revoked or expires. */
import { Clock, Context, type DateTime, Deferred, Duration, Effect, Layer, Queue } from "effect"
import type { ApiKeyId } from "./ApiKey.ts"
import { type Credential, CurrentCredential, InvalidCredential } from "./Credential.ts"
import { IdentityStore } from "./IdentityStore.ts"

/** Time between two checks for credentials that other servers revoked. */
const checkInterval = Duration.seconds(2)

/** Longest sleep before an expiry, in milliseconds, because the system clock may be set in between. */
const maxSleepMs = 60_000

/** A credential that open requests use. */
interface Watched {
  readonly credential: Credential
  readonly revoked: Deferred.Deferred<void>
  /** Number of open requests. */
  waiters: number
}

const until = Effect.fnUntraced(function* (expiresAt: DateTime.Utc) {
  while (true) {
    const left = expiresAt.epochMilliseconds - (yield* Clock.currentTimeMillis)
    if (left <= 0) return
    yield* Effect.sleep(Math.min(left, maxSleepMs))
  }
})

export class CredentialWatch extends Context.Service<
  CredentialWatch,
  {
    /**
     * Fails once the current credential is invalid: at its expiry, at once if this process revokes its key, and within
     * 5 s if another process does or the account is deleted. All callers share one query every 2 s; without callers
     * there is none. Keeps waiting while the database is unavailable.
     */
    readonly untilInvalid: Effect.Effect<never, InvalidCredential, CurrentCredential>
    /** Ends the open requests of a key. To be called after the key was revoked. */
    readonly revoked: (id: ApiKeyId) => Effect.Effect<void>
  }
>()("domain/identity/CredentialWatch") {
  static readonly layer = Layer.effect(
    CredentialWatch,
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const watched = new Map<string, Watched>()
      const wake = yield* Queue.sliding<void>(1)

      const nameOf = ({ account, key }: Credential) => key ?? account

      /** Watches a credential. Checks it immediately, since it may have been revoked after its authentication. */
      const watch = Effect.fnUntraced(function* (credential: Credential) {
        const name = nameOf(credential)
        const entry = watched.get(name) ?? { credential, revoked: Deferred.makeUnsafe<void>(), waiters: 0 }
        watched.set(name, entry)
        entry.waiters++
        yield* Queue.offer(wake, undefined)
        return entry
      })

      const unwatch = (entry: Watched) =>
        Effect.sync(() => {
          entry.waiters--
          if (entry.waiters === 0) watched.delete(nameOf(entry.credential))
        })

      const check = Effect.gen(function* () {
        const entries = [...watched.values()]
        const existing = yield* store.findExisting({
          keys: entries.flatMap(({ credential: { key } }) => (key === null ? [] : [key])),
          accounts: [...new Set(entries.map(({ credential: { account } }) => account))]
        })
        for (const { credential, revoked } of entries) {
          const { account, key } = credential
          if (existing.accounts.has(account) && (key === null || existing.keys.has(key))) continue
          yield* Deferred.succeed(revoked, undefined)
        }
      }).pipe(Effect.catchCause((cause) => Effect.logWarning("Failed to check the credentials of open streams", cause)))

      yield* Effect.gen(function* () {
        if (watched.size === 0) yield* Queue.take(wake)
        else yield* Effect.timeoutOption(Queue.take(wake), checkInterval)
        if (watched.size > 0) yield* check
      }).pipe(Effect.forever, Effect.forkScoped)

      const untilInvalid = Effect.gen(function* () {
        const credential = yield* CurrentCredential
        yield* Effect.acquireUseRelease(
          watch(credential),
          ({ revoked }) =>
            credential.expiresAt === null
              ? Deferred.await(revoked)
              : Effect.raceFirst(Deferred.await(revoked), until(credential.expiresAt)),
          unwatch
        )
        return yield* new InvalidCredential()
      })

      return CredentialWatch.of({
        untilInvalid,
        revoked: Effect.fnUntraced(function* (id) {
          const entry = watched.get(id)
          if (entry !== undefined) yield* Deferred.succeed(entry.revoked, undefined)
        })
      })
    })
  )
}
