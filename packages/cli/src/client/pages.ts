/** Reads lists page by page. */
import * as Effect from "effect/Effect"
import type { Answer } from "./Answer.ts"
import { ask } from "./Client.ts"
import type { OperationId, ParamsOf, ResponseOf } from "./Operations.ts"
import * as Output from "../output/Output.ts"

/** The operations whose responses have pages. */
type PagedId = {
  readonly [Id in OperationId]: "next_cursor" extends keyof ResponseOf<Id> ? Id : never
}[OperationId]

export interface WantedPages<Id extends OperationId> {
  readonly params?: ParamsOf<Id>
  readonly query: Record<string, string | number | undefined>
  readonly limit: number | undefined
  readonly all: boolean
}

type Asking = ReturnType<typeof ask<OperationId>>

/** All files of a list, in pages of the maximum size. */
export const filesAtOnce = { limit: 1000, all: true }

/** One page, or all of them as one answer, whose rows are in `field`. */
export const pages = <Id extends PagedId>(
  id: Id,
  field: keyof ResponseOf<Id>,
  { all, limit, params, query }: WantedPages<Id>
): Effect.Effect<Answer<ResponseOf<Id>>, Effect.Error<Asking>, Effect.Services<Asking>> =>
  Effect.gen(function* () {
    const pageAt = (cursor: string | undefined) =>
      ask(id, {
        ...(params === undefined ? {} : { params }),
        query: { ...query, limit: limit ?? (all ? 100 : undefined), cursor }
      })
    const first = yield* pageAt(undefined)
    const nextOf = (json: ResponseOf<Id>) => (json as { readonly next_cursor?: string }).next_cursor
    let next = nextOf(first.json)
    if (next === undefined) return first
    if (!all) {
      yield* Output.say("there are more: --all lists them all")
      return first
    }
    const rows: Array<unknown> = [...(first.json[field] as ReadonlyArray<unknown>)]
    while (next !== undefined) {
      const { json }: Answer<ResponseOf<Id>> = yield* pageAt(next)
      rows.push(...(json[field] as ReadonlyArray<unknown>))
      next = nextOf(json)
    }
    const { next_cursor: _, ...rest } = first.json as object & { readonly next_cursor?: string }
    const json = { ...rest, [field]: rows } as unknown as ResponseOf<Id>
    return { text: JSON.stringify(json), json }
  })

/** Prints that a list is empty, for people only. */
export const orNone = Effect.fnUntraced(function* (what: string, rows: ReadonlyArray<unknown>) {
  if (rows.length === 0 && !(yield* Output.isForProgram)) yield* Output.say(`no ${what}`)
})
