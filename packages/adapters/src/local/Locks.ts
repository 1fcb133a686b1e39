import { Effect, Semaphore } from "effect"

/** One at a time for each key, in the order they came; a key nobody waits for costs nothing. */
export const make = <K>() => {
  const held = new Map<K, { readonly semaphore: Semaphore.Semaphore; users: number }>()

  return (key: K) =>
    <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
      Effect.suspend(() => {
        const lock = held.get(key) ?? { semaphore: Semaphore.makeUnsafe(1), users: 0 }
        lock.users++
        held.set(key, lock)
        return Effect.ensuring(
          lock.semaphore.withPermits(1)(effect),
          Effect.sync(() => {
            if (--lock.users === 0) held.delete(key)
          })
        )
      })
}
