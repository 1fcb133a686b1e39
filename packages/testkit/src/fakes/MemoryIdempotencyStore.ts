import {
  answersKept,
  Asked,
  cutOffAfter,
  IdempotencyStore,
  type SavedAnswer
} from "@castellan/domain/identity/IdempotencyStore.ts"
import { type DateTime, Effect, Layer } from "effect"

interface Row {
  readonly request: string
  readonly nonce: string
  /** When it was first asked, and when it was last begun. */
  readonly asked: DateTime.Utc
  readonly begun: DateTime.Utc
  readonly answer: SavedAnswer | undefined
}

/** Requests and their answers in memory. */
export const layer = Layer.sync(IdempotencyStore, () => {
  const rows = new Map<string, Row>()
  const at = (scope: { readonly account: string }, key: string) => `${scope.account} ${key}`

  return IdempotencyStore.of({
    begin: (scope, key, asked) =>
      Effect.sync(() => {
        const place = at(scope, key)
        const age = (since: DateTime.Utc) => asked.at.epochMilliseconds - since.epochMilliseconds
        const known = rows.get(place)
        if (known === undefined || age(known.asked) > answersKept) {
          const { nonce, request } = asked
          rows.set(place, { request, nonce, asked: asked.at, begun: asked.at, answer: undefined })
          return Asked.First({ nonce })
        }
        if (known.request !== asked.request) return Asked.Reused()
        if (known.answer !== undefined) return Asked.Answered({ answer: known.answer })
        if (age(known.begun) <= cutOffAfter) return Asked.InFlight()
        rows.set(place, { ...known, begun: asked.at })
        return Asked.First({ nonce: known.nonce })
      }),
    answer: (scope, key, answer) =>
      Effect.sync(() => {
        const known = rows.get(at(scope, key))
        if (known !== undefined) rows.set(at(scope, key), { ...known, answer })
      }),
    forget: (scope, key) =>
      Effect.sync(() => {
        rows.delete(at(scope, key))
      }),
    sweep: (before) =>
      Effect.sync(() => {
        const old = [...rows].filter(([, row]) => row.asked.epochMilliseconds < before.epochMilliseconds)
        for (const [place] of old) rows.delete(place)
        return old.length
      })
  })
})
