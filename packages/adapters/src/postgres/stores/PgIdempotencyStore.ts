/** Idempotency keys and their responses in Postgres. */
import {
  responseRetentionMs,
  KeyState,
  IdempotencyStore,
  keyLeaseMs,
  SavedResponse
} from "@castellan/domain/identity/IdempotencyStore.ts"
import { type DateTime, Effect, Layer } from "effect"
import { sql } from "kysely"
import { Db, query } from "../Db.ts"
import { toDate } from "../sql/times.ts"

export const layer = Layer.effect(
  IdempotencyStore,
  Effect.gen(function* () {
    const { kysely } = yield* Db

    const selectKey = (account: string, key: string) =>
      kysely.selectFrom("idempotent_requests").where("account_id", "=", account).where("key", "=", key)

    /** Claims a key that is new, expired or abandoned by its server. One of two concurrent claims gets no row. */
    const claim = (account: string, key: string, request: string, nonce: string, now: Date) => {
      const before = (age: number) => new Date(now.getTime() - age)
      return sql<{ nonce: string }>`
        insert into idempotent_requests as known (account_id, key, request, nonce, asked_at, begun_at)
        values (${account}, ${key}, ${request}, ${nonce}, ${now}, ${now})
        on conflict (account_id, key) do update set
          request = excluded.request,
          nonce = case when known.asked_at < ${before(responseRetentionMs)} then excluded.nonce else known.nonce end,
          asked_at = case when known.asked_at < ${before(responseRetentionMs)} then excluded.asked_at else known.asked_at end,
          begun_at = excluded.begun_at,
          answer_status = null,
          answer_body = null
        where known.asked_at < ${before(responseRetentionMs)}
          or (known.request = excluded.request and known.answer_status is null and known.begun_at < ${before(keyLeaseMs)})
        returning nonce`.execute(kysely)
    }

    /** Whether the attempt still holds the key. `held` is the time of its last renewal, stored in `begun_at`. */
    const isHeld = (account: string, key: string, held: DateTime.Utc) =>
      sql<boolean>`account_id = ${account} and key = ${key} and begun_at = ${toDate(held)} and answer_status is null`

    return IdempotencyStore.of({
      begin: Effect.fnUntraced(function* (scope, key, asked) {
        const claimed = yield* query(() => claim(scope.account, key, asked.request, asked.nonce, toDate(asked.at)))
        const [row] = claimed.rows
        if (row !== undefined) return KeyState.First({ nonce: row.nonce })
        const known = yield* query(() => selectKey(scope.account, key).selectAll().executeTakeFirst())
        // Deleted since the claim was refused: the holder has just given it up, and the client may retry.
        if (known === undefined) return KeyState.InFlight()
        if (known.request !== asked.request) return KeyState.Reused()
        if (known.answer_status === null || known.answer_body === null) return KeyState.InFlight()
        return KeyState.Completed({
          answer: new SavedResponse({ status: known.answer_status, body: known.answer_body })
        })
      }),
      renew: (scope, key, held, at) =>
        Effect.map(
          query(() =>
            kysely
              .updateTable("idempotent_requests")
              .set({ begun_at: toDate(at) })
              .where(isHeld(scope.account, key, held))
              .executeTakeFirst()
          ),
          (updated) => updated.numUpdatedRows > 0n
        ),
      answer: (scope, key, held, answer) =>
        query(() =>
          kysely
            .updateTable("idempotent_requests")
            .set({ answer_status: answer.status, answer_body: answer.body })
            .where(isHeld(scope.account, key, held))
            .execute()
        ).pipe(Effect.asVoid),
      forget: (scope, key, held) =>
        query(() =>
          kysely
            .deleteFrom("idempotent_requests")
            .where(isHeld(scope.account, key, held))
            .execute()
        ).pipe(Effect.asVoid),
      sweep: (before) =>
        Effect.map(
          query(() =>
            kysely.deleteFrom("idempotent_requests").where("asked_at", "<", toDate(before)).executeTakeFirst()
          ),
          (deleted) => Number(deleted.numDeletedRows)
        )
    })
  })
)
