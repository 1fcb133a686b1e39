import {
  responseRetentionMs,
  KeyState,
  IdempotencyStore,
  keyLeaseMs,
  type SavedResponse
} from "@castellan/domain/identity/IdempotencyStore.ts"
import { type DateTime, Effect, Layer } from "effect"

interface Row {
  readonly request: string
  readonly nonce: string
  /** When the first attempt began, and when the current attempt took or renewed its lease. */
  readonly asked: DateTime.Utc
  readonly begun: DateTime.Utc
  readonly answer: SavedResponse | undefined
}

/** Stores requests and their responses in memory. */
export const layer = Layer.sync(IdempotencyStore, () => {
  const rows = new Map<string, Row>()
  const placeOf = (scope: { readonly account: string }, key: string) => `${scope.account} ${key}`

  /** The request of an attempt that still holds the key. */
  const heldAt = (place: string, held: DateTime.Utc): Row | undefined => {
    const known = rows.get(place)
    const isHeld = known?.answer === undefined && known?.begun.epochMilliseconds === held.epochMilliseconds
    return isHeld ? known : undefined
  }

  return IdempotencyStore.of({
    begin: (scope, key, asked) =>
      Effect.sync(() => {
        const place = placeOf(scope, key)
        const age = (since: DateTime.Utc) => asked.at.epochMilliseconds - since.epochMilliseconds
        const known = rows.get(place)
        if (known === undefined || age(known.asked) > responseRetentionMs) {
          const { nonce, request } = asked
          rows.set(place, { request, nonce, asked: asked.at, begun: asked.at, answer: undefined })
          return KeyState.First({ nonce })
        }
        if (known.request !== asked.request) return KeyState.Reused()
        if (known.answer !== undefined) return KeyState.Completed({ answer: known.answer })
        if (age(known.begun) <= keyLeaseMs) return KeyState.InFlight()
        rows.set(place, { ...known, begun: asked.at })
        return KeyState.First({ nonce: known.nonce })
      }),
    renew: (scope, key, held, at) =>
      Effect.sync(() => {
        const known = heldAt(placeOf(scope, key), held)
        if (known !== undefined) rows.set(placeOf(scope, key), { ...known, begun: at })
        return known !== undefined
      }),
    answer: (scope, key, held, answer) =>
      Effect.sync(() => {
        const known = heldAt(placeOf(scope, key), held)
        if (known !== undefined) rows.set(placeOf(scope, key), { ...known, answer })
      }),
    forget: (scope, key, held) =>
      Effect.sync(() => {
        if (heldAt(placeOf(scope, key), held) !== undefined) rows.delete(placeOf(scope, key))
      }),
    sweep: (before) =>
      Effect.sync(() => {
        const old = [...rows].filter(([, row]) => row.asked.epochMilliseconds < before.epochMilliseconds)
        for (const [place] of old) rows.delete(place)
        return old.length
      })
  })
})
