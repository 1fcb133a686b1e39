/** Notices when the credential of a stream, a wait or a transfer is revoked or expires. */
import { Clock, Context, type DateTime, Deferred, Duration, Effect, Layer, Queue } from "effect"
import type { ApiKeyId } from "./ApiKey.ts"
import { type Credential, CurrentCredential, InvalidCredential } from "./Credential.ts"
import { IdentityStore } from "./IdentityStore.ts"

/** Time between two looks at the store for what another server revoked. */
const lookEvery = Duration.seconds(2)

/** Longest sleep until an expiry, in milliseconds: the system's clock may be set while we sleep. */
const sleepAtMost = 60_000

/** A credential that something is open for. */
interface Watched {
  readonly credential: Credential
  readonly revoked: Deferred.Deferred<void>
  /** How many wait for its end. */
  waiters: number
}

const until = Effect.fnUntraced(function* (expiresAt: DateTime.Utc) {
  while (true) {
    const left = expiresAt.epochMilliseconds - (yield* Clock.currentTimeMillis)
    if (left <= 0) return
    yield* Effect.sleep(Math.min(left, sleepAtMost))
  }
})

export class CredentialWatch extends Context.Service<
  CredentialWatch,
  {
    /**
     * Fails once the current credential is no longer valid: at its expiry, at once when this process revokes its key,
     * and within 5 s when another process does so or its account is gone. All callers share one look at the store every
     * 2 s; without callers there is none. Goes on waiting while the store can't be reached.
     */
    readonly untilRefused: Effect.Effect<never, InvalidCredential, CurrentCredential>
    /** To be called after a key was revoked: whatever is open for it ends. */
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

      /** Starts to watch a credential, which is looked at right away: it may have been revoked since it was checked. */
      const enter = Effect.fnUntraced(function* (credential: Credential) {
        const name = nameOf(credential)
        const entry = watched.get(name) ?? { credential, revoked: Deferred.makeUnsafe<void>(), waiters: 0 }
        watched.set(name, entry)
        entry.waiters++
        yield* Queue.offer(wake, undefined)
        return entry
      })

      const leave = (entry: Watched) =>
        Effect.sync(() => {
          entry.waiters--
          if (entry.waiters === 0) watched.delete(nameOf(entry.credential))
        })

      const look = Effect.gen(function* () {
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
        else yield* Effect.timeoutOption(Queue.take(wake), lookEvery)
        if (watched.size > 0) yield* look
      }).pipe(Effect.forever, Effect.forkScoped)

      const untilRefused = Effect.gen(function* () {
        const credential = yield* CurrentCredential
        yield* Effect.acquireUseRelease(
          enter(credential),
          ({ revoked }) =>
            credential.expiresAt === null
              ? Deferred.await(revoked)
              : Effect.raceFirst(Deferred.await(revoked), until(credential.expiresAt)),
          leave
        )
        return yield* new InvalidCredential()
      })

      return CredentialWatch.of({
        untilRefused,
        revoked: Effect.fnUntraced(function* (id) {
          const entry = watched.get(id)
          if (entry !== undefined) yield* Deferred.succeed(entry.revoked, undefined)
        })
      })
    })
  )
}
