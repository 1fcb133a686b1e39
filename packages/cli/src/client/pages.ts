/** Lists that come in pages. */
import * as Effect from "effect/Effect"
import type { Answer } from "./Answer.ts"
import { ask } from "./Client.ts"
import * as Output from "../output/Output.ts"

interface Paged {
  readonly next_cursor?: string | undefined
}

export interface WantedPages {
  readonly query: Record<string, string | number | undefined>
  readonly limit: number | undefined
  readonly all: boolean
}

/** All files of a list, as many at once as the server gives. */
export const filesAtOnce = { limit: 1000, all: true }

/** One page, or all of them as one answer, whose rows stand in `field`. */
export const pages = Effect.fnUntraced(function* <A extends Paged>(at: string, field: keyof A, wanted: WantedPages) {
  const pageAt = (cursor: string | undefined) =>
    ask<A>("GET", at, { query: { ...wanted.query, limit: wanted.limit ?? (wanted.all ? 100 : undefined), cursor } })
  const first = yield* pageAt(undefined)
  let next = first.json.next_cursor
  if (next === undefined) return first
  if (!wanted.all) {
    yield* Output.say("there are more: --all lists them all")
    return first
  }
  const rows: Array<unknown> = [...(first.json[field] as ReadonlyArray<unknown>)]
  while (next !== undefined) {
    const { json }: Answer<A> = yield* pageAt(next)
    rows.push(...(json[field] as ReadonlyArray<unknown>))
    next = json.next_cursor
  }
  const { next_cursor: _, ...rest } = first.json
  const json = { ...rest, [field]: rows } as unknown as A
  return { text: JSON.stringify(json), json }
})

/** A list for people: its table, or a word that there is nothing. */
export const orNone = Effect.fnUntraced(function* (what: string, rows: ReadonlyArray<unknown>) {
  if (rows.length === 0 && !(yield* Output.isForProgram)) yield* Output.say(`no ${what}`)
})
